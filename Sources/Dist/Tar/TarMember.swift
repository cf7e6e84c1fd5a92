/// A file in a tar.
package struct TarMember: Hashable, Sendable {
  package let name: String
  /// Where in the tar its bytes are.
  package let bytes: Range<Int>
  /// Why its bytes cannot be used, as the words that follow its name; nil: it is a plain file.
  package let fault: String?
  /// Where its header begins, for messages.
  let header: Int
}
