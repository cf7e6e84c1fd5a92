/// Recognises files that no import reads by their first bytes, so that a message names what they are. No text and no
/// tar begins with any of these.
package enum FileSignature {
  /// The first bytes, of which nil may be any, and the predicate of a sentence about the file.
  private static let known: [(bytes: [UInt8?], words: String)] = [
    ([0x1F, 0x8B], "is compressed by gzip; unpack it with gunzip"),
    ([0x42, 0x5A, 0x68, nil, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59], "is compressed by bzip2; unpack it with bunzip2"),
    ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "is compressed by xz; unpack it with unxz"),
    ([0x28, 0xB5, 0x2F, 0xFD], "is compressed by Zstandard; unpack it with unzstd"),
    ([0x04, 0x22, 0x4D, 0x18], "is compressed by LZ4; unpack it with unlz4"),
    ([0x5D, 0, 0], "is compressed by LZMA; unpack it with unlzma"),
    ([0x1F, 0x9D], "is compressed by compress; unpack it with uncompress"),
    ([0x50, 0x4B, 3, 4], "is a zip archive; unpack it with unzip"),
    ([0x50, 0x4B, 5, 6], "is a zip archive without files"),
    ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "is a 7z archive; unpack it with 7z x"),
    ([0x52, 0x61, 0x72, 0x21, 0x1A, 7], "is a RAR archive; unpack it with unrar x"),
    // Behind "PAR1" stands field 1 of a page or of the footer.
    (
      [0x50, 0x41, 0x52, 0x31, 0x15],
      "is a Parquet table; write it as CSV, in Python with pandas.read_parquet(…).to_csv(…, index=False)"
    ),
    (
      [0x41, 0x52, 0x52, 0x4F, 0x57, 0x31, 0, 0],
      "is an Arrow table; write it as CSV, in Python with pandas.read_feather(…).to_csv(…, index=False)"
    ),
    ([0x89, 0x48, 0x44, 0x46], "is an HDF5 file; the shards of a dataset need no import"),
    ([0xFF, 0xD8, 0xFF], "is a JPEG image; name its folder, or a table of images"),
    ([0x89, 0x50, 0x4E, 0x47], "is a PNG image; name its folder, or a table of images"),
    (
      [0x52, 0x49, 0x46, 0x46, nil, nil, nil, nil, 0x57, 0x45, 0x42, 0x50],
      "is a WebP image; name its folder, or a table of images"
    ),
    ([0xFF, 0xFE], "is text in UTF-16; save it as UTF-8"), ([0xFE, 0xFF], "is text in UTF-16; save it as UTF-8"),
  ]

  /// Returns what the file that begins with `head` is, and what to do with it, as the predicate of a sentence; nil if
  /// it may be text or a tar.
  package static func foreign(_ head: [UInt8]) -> String? {
    known.first { entry in
      head.count >= entry.bytes.count && zip(entry.bytes, head).allSatisfy { $0 == nil || $0 == $1 }
    }?.words
  }
}
