import Foundation
import TestSupport

/// The `preprocess` part of the golden set: pictures, and what PIL and open_clip make of them.
struct ImageGoldenSet {
  struct Meta: Decodable {
    struct Picture: Decodable {
      let width: Int
      let height: Int
      let kind: String
      let orderMatters: Bool
      let exifOrientation: Int?
    }
    struct Crop: Decodable, Sendable {
      let tensor: String
      let image: String
      let top: Int
      let left: Int
      let height: Int
      let width: Int
      let out: Int
    }
    let images: [String: Picture]
    let crops: [Crop]
    let mean: [Float]
    let std: [Float]
  }

  let meta: Meta
  let names: [String]
  private let folder: URL
  private let data: Data
  private let entries: [String: Entry]
  private struct Entry: Decodable {
    let shape: [Int]
    let dataOffsets: [Int]
  }
  private enum Header: Decodable {
    case tensor(Entry)
    case other
    init(from decoder: any Decoder) throws { self = (try? Entry(from: decoder)).map(Header.tensor) ?? .other }
  }

  init() throws {
    folder = Fixture.golden.appending(path: "preprocess")
    meta = try Self.json(Meta.self, from: Data(contentsOf: folder.appending(path: "meta.json")))
    names = meta.images.keys.sorted()
    data = try Data(contentsOf: folder.appending(path: "expected.safetensors"))
    let headers = try Self.json([String: Header].self, from: data[8..<8 + Self.headerCount(data)])
    entries = headers.compactMapValues { if case .tensor(let entry) = $0 { entry } else { nil } }
  }

  private static func json<T: Decodable>(_ type: T.Type, from data: Data) throws -> T {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(type, from: data)
  }

  private static func headerCount(_ data: Data) -> Int {
    data.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  /// The encoded file of a picture.
  func file(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: folder.appending(path: "images").appending(path: name)))
  }

  var tensors: [String] { entries.keys.sorted() }

  func shape(_ tensor: String) -> [Int]? { entries[tensor]?.shape }

  func bytes(_ tensor: String) -> [UInt8]? {
    entries[tensor].map { entry in
      let start = 8 + Self.headerCount(data)
      return [UInt8](data[start + entry.dataOffsets[0]..<start + entry.dataOffsets[1]])
    }
  }

  func floats(_ tensor: String) -> [Float]? {
    bytes(tensor).map { bytes in
      stride(from: 0, to: bytes.count, by: 4).map { at in
        Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) })
      }
    }
  }
}
