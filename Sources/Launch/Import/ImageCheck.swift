import Dist
import Model

/// Reads and decodes images to check them. Each thread has its own, which reuses its memory.
struct ImageCheck {
  /// The largest file in bytes that is read; a valid image of the largest size allowed is far smaller.
  static let mostBytes = 256 << 20
  private var decoder: ImageDecoder
  private var image = RGBImage()
  /// The tar of the last image, which is likely to hold the next one too.
  private var tar: OpenFile?

  init(maxPixels: Int) { decoder = ImageDecoder(maxPixels: maxPixels) }

  mutating func sample(_ entry: ImportEntry) -> Result<DatasetSample, Rejection> {
    switch entry {
    case .rejected(let rejection): return .failure(rejection)
    case .item(let item):
      do throws(ImportReason) {
        let bytes = try checkedBytes(of: item)
        return .success(DatasetSample(image: bytes, captions: item.captions, key: item.key, label: item.label))
      } catch { return .failure(Rejection(place: item.place, key: item.key, reason: error.words)) }
    }
  }

  private mutating func checkedBytes(of item: ImportItem) throws(ImportReason) -> [UInt8] {
    let bytes: [UInt8]
    do throws(ImportReason) { bytes = try read(item) } catch { throw ImportReason("\(item.path) \(error.words)") }
    do throws(ImageError) { try decoder.decode(bytes, into: &image) } catch {
      guard case .tooManyPixels(let format, let width, let height, let limit) = error else {
        throw ImportReason("\(error)")
      }
      throw ImportReason("\(format.title) image of \(width) × \(height) pixels, more than --max-pixels \(limit)")
    }
    return bytes
  }

  private mutating func read(_ item: ImportItem) throws(ImportReason) -> [UInt8] {
    guard let bytes = item.bytes else { return try UserFiles.read(item.path, limit: Self.mostBytes) }
    do throws(FileError) {
      let file = if let tar, tar.path == item.path { tar } else { try OpenFile.reading(item.path) }
      tar = file
      return try file.read(bytes.count, of: UInt8.self, at: bytes.lowerBound)
    } catch { throw ImportReason("cannot be read: \(error.reason)") }
  }
}
