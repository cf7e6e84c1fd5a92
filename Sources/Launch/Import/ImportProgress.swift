import Foundation

/// Says on standard error, every few seconds, how far an import has come.
struct ImportProgress {
  private let total: Int
  private let start = ContinuousClock.now
  private var last = ContinuousClock.now
  private var bytes = 0
  private var done = 0

  init(total: Int) { self.total = total }

  /// Seconds since the beginning.
  var seconds: Double { (ContinuousClock.now - start) / .seconds(1) }

  mutating func note(bytes: Int, rejected: Int) {
    done += 1
    self.bytes += bytes
    guard ContinuousClock.now - last >= .seconds(5) else { return }
    last = ContinuousClock.now
    let rate = Double(done) / seconds
    let left = Int(Double(total - done) / rate)
    let line =
      "\(done) of \(total) pictures, \(rejected) left out, \(Int(rate)) pictures/s, "
      + "\(Quantity.bytes(Int(Double(bytes) / seconds)))/s, \(left / 60) min \(left % 60) s left\n"
    FileHandle.standardError.write(Data(line.utf8))
  }
}

/// Numbers as people read them.
enum Quantity {
  /// "3.4 MiB".
  static func bytes(_ count: Int) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(count) bytes" : String(format: "%.1f ", value) + units[unit]
  }
}
