import Foundation

/// What carries messages between two ranks.
enum Transport: String, Sendable, Codable {
  case sharedMemory = "shared memory"
  case tcp = "TCP"
  case infiniBand = "InfiniBand"
  case omniPath = "Omni-Path"
  case roce = "RDMA over Ethernet"
  case unknown
}

/// A network interface, or a port of a device that moves memory between hosts (RDMA), as the kernel describes it.
struct NetworkDevice: Sendable, Codable, Hashable {
  /// The interface's name, or the device's: `eth0`, `mlx5_0`.
  var name: String
  /// What travels over it; that of an interface is TCP.
  var transport: Transport
  /// The speed in Gb/s; nil if the kernel does not know it.
  var speed: Double?
  /// True if it is up.
  var isUp: Bool

  /// `mlx5_0 InfiniBand 100 Gb/s`.
  var text: String {
    let kind = transport == .tcp ? "" : " \(transport.rawValue)"
    return "\(name)\(kind)" + (speed.map { " \(Figures.significant($0, 3)) Gb/s" } ?? "") + (isUp ? "" : " (down)")
  }
}

extension NetworkDevice {
  /// Lists the devices of this host that are not its loopback. `root` stands before the paths of the system's files.
  static func all(root: String = "") -> [NetworkDevice] {
    let interfaces = InterfaceBytes.interfaces(root: root).keys.filter { $0 != "lo" }.sorted().map { name in
      let folder = "\(root)/sys/class/net/\(name)"
      let speed = text("\(folder)/speed").flatMap(Double.init).flatMap { $0 > 0 ? $0 / 1000 : nil }
      // A virtual interface does not say whether it is up.
      return NetworkDevice(
        name: name, transport: .tcp, speed: speed, isUp: text("\(folder)/operstate").map { $0 != "down" } ?? true)
    }
    let ports = self.ports(root: root).map { device, folder in
      let transport: Transport =
        device.hasPrefix("hfi1") ? .omniPath : text("\(folder)/link_layer") == "Ethernet" ? .roce : .infiniBand
      // The kernel writes `100 Gb/sec (4X EDR)` and `4: ACTIVE`.
      let speed = text("\(folder)/rate")?.split(separator: " ").first.flatMap { Double($0) }
      return NetworkDevice(
        name: device, transport: transport, speed: speed,
        isUp: text("\(folder)/state")?.hasSuffix("ACTIVE") ?? false)
    }
    return interfaces + ports
  }

  /// Lists the ports of RDMA devices: the device's name, and the kernel's folder of the port.
  fileprivate static func ports(root: String) -> [(device: String, folder: String)] {
    let devices = "\(root)/sys/class/infiniband"
    return names(devices).flatMap { device in
      names("\(devices)/\(device)/ports").map { (device, "\(devices)/\(device)/ports/\($0)") }
    }
  }

  private static func names(_ folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
  }

  fileprivate static func text(_ path: String) -> String? {
    SystemFile.text(path)?.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// The bytes that an interface or a device has sent and received since the system started.
struct InterfaceBytes: Equatable {
  var sent, received: Int

  /// Reads the counters of the network interfaces that this process sees, which may be those of a network namespace.
  static func interfaces(root: String = "") -> [String: InterfaceBytes] {
    let table = SystemFile.text("\(root)/proc/self/net/dev") ?? ""
    return table.split(separator: "\n").reduce(into: [:]) { found, line in
      // `eth0:` and eight numbers of what was received, the first of them bytes, then of what was sent.
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { return }
      let numbers = parts[1].split(separator: " ").map { Int($0) }
      guard numbers.count > 8, let received = numbers[0], let sent = numbers[8] else { return }
      found[parts[0].trimmingCharacters(in: .whitespaces)] = InterfaceBytes(sent: sent, received: received)
    }
  }

  /// Reads the counters of RDMA devices, of all their ports, which count words of four bytes.
  static func devices(root: String = "") -> [String: InterfaceBytes] {
    NetworkDevice.ports(root: root).reduce(into: [:]) { found, port in
      func words(_ name: String) -> Int? { NetworkDevice.text("\(port.folder)/counters/\(name)").flatMap { Int($0) } }
      guard let sent = words("port_xmit_data"), let received = words("port_rcv_data") else { return }
      let before = found[port.device] ?? InterfaceBytes(sent: 0, received: 0)
      found[port.device] = InterfaceBytes(
        sent: before.sent &+ 4 &* sent, received: before.received &+ 4 &* received)
    }
  }
}

/// The counters of all interfaces and RDMA devices at one time.
struct NetworkCounters {
  var interfaces: [String: InterfaceBytes]
  var devices: [String: InterfaceBytes]

  /// Reads them. `root` stands before the paths of the system's files.
  static func now(root: String = "") -> NetworkCounters {
    NetworkCounters(
      interfaces: InterfaceBytes.interfaces(root: root), devices: InterfaceBytes.devices(root: root))
  }

  /// Returns the names of the interfaces, and of the devices, that have sent and received at least so many bytes since
  /// `before`. Other traffic of the host rarely does both at the same moment.
  func rises(since before: NetworkCounters, least: Int) -> (interfaces: [String], devices: [String]) {
    func risen(_ now: [String: InterfaceBytes], _ then: [String: InterfaceBytes]) -> [String] {
      now.keys.sorted().filter { name in
        guard let new = now[name], let old = then[name] else { return false }
        return new.sent &- old.sent >= least && new.received &- old.received >= least
      }
    }
    return (risen(interfaces, before.interfaces), risen(devices, before.devices))
  }
}
