import Dist
import Foundation
import Tensor
import TestSupport

/// The `preprocess` part of the golden set: images, and the results of PIL and open_clip.
struct ImageGoldenSet {
  struct Meta: Decodable {
    struct Image: Decodable {
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
    let images: [String: Image]
    let crops: [Crop]
    let mean: [Float]
    let std: [Float]
  }

  let meta: Meta
  let names: [String]
  private let folder: URL
  private let expected: SafetensorsFile

  init() throws {
    folder = Fixture.golden.appending(path: "preprocess")
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    meta = try decoder.decode(Meta.self, from: Data(contentsOf: folder.appending(path: "meta.json")))
    names = try Fixture.required(meta.images.keys.sorted(), "images in preprocess/meta.json")
    expected = try SafetensorsFile(folder.appending(path: "expected.safetensors"))
  }

  /// Returns the encoded file of an image.
  func file(_ name: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: folder.appending(path: "images").appending(path: name)))
  }

  var tensors: [String] { expected.names.sorted() }

  /// Returns the shape of a tensor, or nil if the set has no such tensor. The functions below do likewise.
  func shape(_ tensor: String) throws -> [Int]? {
    expected.contains(tensor) ? try expected.shape(of: tensor).array : nil
  }

  func bytes(_ tensor: String) throws -> [UInt8]? {
    expected.contains(tensor) ? try expected.integers(tensor).map { UInt8($0) } : nil
  }

  func floats(_ tensor: String) throws -> [Float]? {
    expected.contains(tensor) ? try expected.tensor(tensor, as: Float.self).array : nil
  }
}
