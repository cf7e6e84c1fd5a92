internal import CCrypto

/// Computes the SHA-256 of FIPS 180-4 of bytes that are added in one or more pieces, with OpenSSL's libcrypto.
///
/// A hasher owns memory of the library, which a copy would share, so it cannot be copied, and `finalize` consumes it. A
/// hasher belongs to one thread at a time; several threads may each use their own. A failed call, which happens only
/// when the library runs out of memory, ends the program with a message that names the call.
@safe
public struct SHA256: ~Copyable {
  /// The library's state after the bytes so far.
  private let context: OpaquePointer

  /// Creates a hasher that has seen no bytes yet.
  public init() {
    Self.startLibrary
    guard let context = unsafe EVP_MD_CTX_new() else {
      preconditionFailure("EVP_MD_CTX_new: libcrypto has no memory for another SHA-256")
    }
    guard unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
      preconditionFailure("EVP_DigestInit_ex: libcrypto has no memory for another SHA-256, or lacks the algorithm")
    }
    unsafe self.context = context
  }

  deinit { unsafe EVP_MD_CTX_free(context) }

  /// Adds `bytes` after those that were added before. Contiguous bytes, such as those of arrays, slices, `Data` and
  /// UTF-8 text, are hashed in place; others are copied first.
  public mutating func update(_ bytes: some Collection<UInt8>) {
    let isDone: Void? = bytes.withContiguousStorageIfAvailable { unsafe update(UnsafeRawBufferPointer($0)) }
    if isDone == nil { update(Array(bytes)) }
  }

  /// Adds the bytes of `buffer` after those that were added before.
  public mutating func update(_ buffer: UnsafeRawBufferPointer) {
    guard unsafe EVP_DigestUpdate(context, buffer.baseAddress, buffer.count) == 1 else {
      preconditionFailure("EVP_DigestUpdate: libcrypto could not add \(buffer.count) bytes to a SHA-256")
    }
  }

  /// Returns the digest of all added bytes.
  public consuming func finalize() -> Digest {
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    guard unsafe EVP_DigestFinal_ex(context, &bytes, nil) == 1 else {
      preconditionFailure("EVP_DigestFinal_ex: libcrypto could not finish a SHA-256")
    }
    return Digest(bytes: bytes)
  }

  /// Returns the digest of `bytes`.
  public static func hash(_ bytes: some Collection<UInt8>) -> Digest {
    var hasher = SHA256()
    hasher.update(bytes)
    return hasher.finalize()
  }

  /// The size of every digest, in bytes.
  public static let byteCount = 32

  /// Starts the library, once per process.
  ///
  /// The program may exit while another thread hashes, so the library must not tear itself down at exit. It does not
  /// read the configuration file that OPENSSL_CONF or the system names, because a file that asks for other algorithms
  /// than the default ones, as some Python environments set it, would leave the library without SHA-256.
  private static let startLibrary: Void = {
    guard OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG), nil) == 1 else {
      preconditionFailure("OPENSSL_init_crypto: libcrypto could not start")
    }
  }()
}

extension SHA256 {
  /// The SHA-256 of some bytes.
  public struct Digest: Hashable, Sendable {
    /// The digest itself: `byteCount` bytes, the most significant first.
    public let bytes: [UInt8]

    /// The digest as 64 hexadecimal digits in lower case, as `sha256sum` prints it.
    public var hexadecimal: String {
      bytes.map { byte in
        let digits = String(byte, radix: 16)
        return digits.count == 1 ? "0" + digits : digits
      }.joined()
    }
  }
}
