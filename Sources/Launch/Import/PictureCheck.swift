import Dist
import Model

/// Reads and tries to decode pictures; one for each thread, which keeps its memory.
struct PictureCheck {
  /// Files beyond this are refused unread; a picture of the largest size allowed is far smaller.
  static let mostBytes = 256 << 20

  private var decoder: ImageDecoder
  private var picture = RGBImage()
  /// The tar of which the last picture was read: the next one is likely to lie in it too.
  private var tar: OpenFile?

  init(maxPixels: Int) { decoder = ImageDecoder(maxPixels: maxPixels) }

  /// The sample of an entry, or why it is left out.
  mutating func sample(_ entry: ImportEntry) -> Result<CorpusSample, Rejection> {
    switch entry {
    case .rejected(let rejection): return .failure(rejection)
    case .item(let item):
      switch read(item) {
      case .failure(let reason): return .failure(rejection(item, "\(item.path) \(reason.words)"))
      case .success(let bytes):
        do throws(ImageError) {
          try decoder.decode(bytes, into: &picture)
        } catch {
          return .failure(rejection(item, Self.reason(error)))
        }
        return .success(CorpusSample(image: bytes, captions: item.captions, key: item.key, label: item.label))
      }
    }
  }

  private mutating func read(_ item: ImportItem) -> Result<[UInt8], RegularFile.Reason> {
    guard let bytes = item.bytes else { return RegularFile.read(item.path, limit: Self.mostBytes) }
    do throws(FileError) {
      let file: OpenFile
      if let tar, tar.path == item.path { file = tar } else { file = try OpenFile.reading(item.path) }
      tar = file
      return .success(try file.read(bytes.count, of: UInt8.self, at: bytes.lowerBound))
    } catch { return .failure(.init(words: "cannot be read: \(error.reason)")) }
  }

  private func rejection(_ item: ImportItem, _ reason: String) -> Rejection {
    Rejection(place: item.place, key: item.key, reason: reason)
  }

  private static func reason(_ error: ImageError) -> String {
    guard case .tooManyPixels(let format, let width, let height, let limit) = error else { return "\(error)" }
    return "\(format.title) picture of \(width) × \(height) pixels, more than --max-pixels \(limit)"
  }
}

extension Rejection: Error {}
