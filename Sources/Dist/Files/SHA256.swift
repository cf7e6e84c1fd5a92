internal import CCrypto

/// Computes the SHA-256 of FIPS 180-4 with OpenSSL's libcrypto, which ends the program if it lacks memory.
@safe
public struct SHA256: ~Copyable {
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

  /// Adds `bytes` after those before. Contiguous bytes are hashed in place; others are copied first.
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

  /// Starts the library, once per process. It must not tear itself down at exit, while another thread may hash, nor
  /// read a configuration file, which may ask for other algorithms, as in some Python environments.
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
    public var hexadecimal: String { bytes.map { $0.digits(2, radix: 16) }.joined() }
  }
}
