/// What is wrong with a tar, and where in it.
package struct TarError: ExitCoded, Hashable, CustomStringConvertible {
  package let path: String
  /// The byte at which the header in question begins.
  package let offset: Int
  /// The file of the tar that the header belongs to, where its name is known.
  package let member: String?
  package let reason: String

  package var exitCode: Int32 { 65 }

  package var description: String {
    "\(path): \(member.map { "“\($0)”, " } ?? "")byte \(offset): \(reason)"
  }
}
