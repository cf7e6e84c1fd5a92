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
    let left = Double(total - done) / rate
    let line =
      "\(done) of \(total) pictures, \(rejected) left out, \(Int(rate)) pictures/s, "
      + "\(Figures.bytes(Int(Double(bytes) / seconds)))/s, \(Figures.duration(left)) left\n"
    FileHandle.standardError.write(Data(line.utf8))
  }
}
