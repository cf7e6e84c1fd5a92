/// One picture with what belongs to it.
public struct CorpusSample: Hashable, Sendable {
  /// The encoded picture, as it came.
  public var image: [UInt8]
  public var captions: [String]
  /// The sample's name, unique in its corpus.
  public var key: String
  /// The class's number, where it is known.
  public var label: Int?

  public init(image: [UInt8], captions: [String], key: String, label: Int? = nil) {
    self.image = image
    self.captions = captions
    self.key = key
    self.label = label
  }
}
