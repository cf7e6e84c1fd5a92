import Model

extension RunConfig {
  /// The run as each of its further teachers would have it, were it the only one.
  var ofFurtherTeachers: [RunConfig] {
    guard let first = teacher, usesTeacher else { return [] }
    return first.ensemble.map { member in
      var run = self
      run.teacher = member.teacher
      return run
    }
  }

  /// What is wrong with the teachers beside the first, by the path of the key to change.
  func ensembleMistakes(_ first: TeacherConfig) -> [(path: String, text: String)] {
    guard !first.ensemble.isEmpty else { return [] }
    var found: [(path: String, text: String)] = []
    if first.cache == nil {
      found.append(
        (
          "teacher.ensemble",
          "the embeddings of several teachers come from caches, and the first one has none; set teacher.cache, and run "
            + "kinship precompute, which computes them all"
        ))
    }
    let followers = ObjectiveOptions.allKeys(needing: .teacherSoftmaxes).joined(separator: ", ")
    if usesTeacher, objective.keys(needing: .teacherSoftmaxes).isEmpty {
      found.append(
        (
          "teacher.ensemble",
          "no term of the objective follows softmaxes (\(followers)), of which alone several "
            + "teachers' are averaged; give one of them a weight, or take ensemble out"
        ))
    }
    var folders = [first.cache?.path]
    for (index, member) in first.ensemble.enumerated() {
      let section = "teacher.ensemble.\(index)"
      found += mistakes(of: member.teacher, section)
      if let cache = member.teacher.cache {
        if folders.contains(cache.path) {
          found.append(("\(section).cache", "\(cache.path) is another teacher's; each needs a folder of its own"))
        }
        folders.append(cache.path)
      } else {
        found.append(("\(section).cache", "is missing: the folder of its embeddings"))
      }
    }
    return found
  }
}
