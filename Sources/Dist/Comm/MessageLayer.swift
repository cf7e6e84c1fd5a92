internal import CMPI

/// The components of Open MPI that carry messages, as MPI's interface for tools (MPI_T) lists them.
public struct MessageLayer: Codable, Equatable, Sendable {
  /// The component that MPI selected to take messages from the program ("pml"): `ob1`, `ucx` or `cm`; nil if MPI does
  /// not say it.
  public var selected: String?
  /// The components that may carry its messages: those of `ob1` ("btl"), of which it chooses by peer, as `tcp`; the one
  /// of `cm` ("mtl"), as `ofi` or `psm2`; none for `ucx`, which has transports of its own.
  public var carriers: [String]

  public init(selected: String?, carriers: [String]) { (self.selected, self.carriers) = (selected, carriers) }

  /// Reads the components of this process. MPI must have been started.
  public static var current: MessageLayer {
    // `base` is the framework itself, and the other two pass messages on to the one that was selected.
    let selected = components("ompi_pml_").filter { !["base", "v", "monitoring"].contains($0) }
    guard selected.count == 1 else { return MessageLayer(selected: nil, carriers: []) }
    let carriers =
      switch selected[0] {
      case "ob1": components("opal_btl_").filter { !["base", "self"].contains($0) }
      case "cm": components("ompi_mtl_").filter { $0 != "base" }
      default: [] as [String]
      }
    // In Open MPI 5 `vader` is another name of `sm`.
    let isTwice = carriers.contains("sm") && carriers.contains("vader")
    return MessageLayer(selected: selected[0], carriers: carriers.filter { !isTwice || $0 != "vader" })
  }

  /// The layer in words: `Open MPI's own (ob1) with tcp and vader`, `UCX`, `OFI`.
  public var text: String {
    let list = carriers.joined(separator: ", ")
    switch selected {
    case "ob1": return "Open MPI's own (ob1), which may use \(list)"
    case "ucx": return "UCX"
    case "cm": return carriers == ["ofi"] ? "OFI (cm)" : "\(list) (cm)"
    case let other?: return other
    case nil: return "not known, because MPI does not say it"
    }
  }

  private static func components(_ prefix: String) -> [String] {
    var names = [CChar](repeating: 0, count: 1024)
    guard unsafe kinship_mpi_components(prefix, &names, Int32(names.count)) == 0 else { return [] }
    let text = String(decoding: names.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return text.split(separator: " ").map(String.init).sorted()
  }
}
