/// The SHA-256 that our safetensors files carry in their metadata: that of all bytes of the file, in which its own
/// digits count as zeros. Other programs read such a file like any other.
enum SafetensorsDigest {
  static let key = "kinship.sha256"
  /// The text before the digits. It tells people what they are, and is recognized where the key itself is damaged.
  private static let prefix = "of the file with these digits as zeros: "
  /// The text with zeros as its digits, as it counts for the SHA-256.
  static let blank = text(String(repeating: "0", count: 2 * SHA256.byteCount))

  static func text(_ digits: String) -> String { prefix + digits }

  /// Removes the digest's text from a file's metadata and returns it; nil if there is none.
  static func take(from metadata: inout [String: String]) -> String? {
    guard let found = metadata.first(where: { $0.key == key || $0.value.hasPrefix(prefix) }) else { return nil }
    metadata[found.key] = nil
    return found.value
  }

  /// Returns the bytes before a file's numbers with `blank` in place of `text`, or as they are if that is no digest.
  static func blanked(_ text: String, in front: [UInt8]) -> [UInt8] {
    guard text.hasPrefix(prefix), text.utf8.count == blank.utf8.count else { return front }
    return front.replacing(Array(text.utf8), with: Array(blank.utf8))
  }
}
