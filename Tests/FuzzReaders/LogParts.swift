// The reader of logs and what it fills are Launch's own files, linked into this folder, because no program can depend
// on another one. They name two things of the program that only its writer of logs uses.

enum Release { static let version = "none" }

enum RunLog { static let now = "1970-01-01T00:00:00Z" }
