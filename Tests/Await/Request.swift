import Foundation

/// The program's arguments.
enum Request {
  case file(FileCondition, while: pid_t)
  case gone([pid_t])
  case stopped([pid_t])

  init?(_ arguments: ArraySlice<String>) {
    guard let verb = arguments.first else { return nil }
    var words: [String] = []
    var options: [String: Int] = [:]
    var rest = arguments.dropFirst()
    while let word = rest.popFirst() {
      guard ["--after", "--while"].contains(word) else {
        words.append(word)
        continue
      }
      guard let value = rest.popFirst().flatMap({ Int($0) }), value >= 0 else { return nil }
      options[word] = value
    }

    if ["gone", "stopped"].contains(verb) {
      let processes = words.compactMap { pid_t($0) }.filter { $0 > 0 }
      guard processes.count == words.count, options.isEmpty else { return nil }
      self = verb == "gone" ? .gone(processes) : .stopped(processes)
      return
    }
    guard let process = options["--while"].flatMap({ pid_t(exactly: $0) }), process > 0,
      let condition = FileCondition(verb, words, after: options["--after"])
    else { return nil }
    self = .file(condition, while: process)
  }
}
