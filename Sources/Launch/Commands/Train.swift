import ArgumentParser
import Dist

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains a model from a run file.",
    discussion: help(
      """
      It runs alone or under mpirun, and the result is the same for any number of ranks. The run's log, its \
      checkpoints and the resolved run file are kept in the folder output/name.
      """, example: "mpirun -n 2 kinship train run.yaml --set optimizer.learning_rate=1e-3"))

  @Argument(help: ArgumentHelp("The run file (YAML). scripts/recipes/example.yaml shows every key.", valueName: "run"))
  var file: String
  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Overrides one value, such as optimizer.learning_rate=1e-3. May be repeated; the last one wins.",
      valueName: "path=value"))
  var overrides: [String] = []
  @Option(
    help: ArgumentHelp(
      "Resumes from a checkpoint: auto (the latest sound one, if there are any), latest, or the path of a checkpoint "
        + "or of a run. With fresh the run begins again, and its earlier checkpoints are set aside.",
      valueName: "auto|latest|fresh|path"))
  var resume: Resume?
  @Flag(help: "Resumes although a dataset has changed since: its path holds other data than the checkpoint's run had.")
  var acceptChanges = false
  @Flag(help: "Checks the run, prints what it would do, and stops.") var dryRun = false
  @Option(
    help: ArgumentHelp(
      "Writes what each rank does when to PREFIX.RANK.json, for chrome://tracing or Perfetto.", valueName: "prefix"))
  var trace: String?

  func validate() throws {
    try require(!acceptChanges || resume != nil, "--accept-changes belongs to --resume; leave it out")
  }

  func run() throws {
    if dryRun { StopRequest.decline() }
    let run = try RunConfig.load(file, overrides: overrides)
    let code = Job.run { ranks in
      Watchdog.start(deadline: run.watchdog.deadline, over: ranks)
      let trainer = Trainer(run: run, ranks: ranks, acceptsChanges: acceptChanges)
      return try trainer.train(resume: resume, dryRun: dryRun, trace: trace).rawValue
    }
    if code != 0 { throw ExitCode(code) }
  }
}

/// The checkpoint from which a run resumes: the latest, without which it begins (`auto`) or is refused (`latest`).
enum Resume: ExpressibleByArgument, Equatable {
  case auto, latest
  /// No checkpoint, although the run's folder may hold some.
  case fresh
  /// This checkpoint, or the latest one of this run.
  case path(String)

  init?(argument: String) {
    switch argument {
    case "": return nil
    case "auto": self = .auto
    case "latest": self = .latest
    case "fresh": self = .fresh
    default: self = .path(argument)
    }
  }
}

struct Precompute: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Computes a teacher's embeddings once, or takes those of another program, for training to read.",
    discussion: help(
      """
      It embeds every caption and data.views crops of every image of the run's datasets, and writes the embeddings to \
      the folder teacher.cache; the datasets of held-out losses too, in central crops. It runs alone or under mpirun, \
      best with one rank per core; the files are the same for any number of ranks, to the bit. It may be stopped at \
      any moment: when started again, it keeps every complete part.

      With --from it computes nothing. The files, parts of one whole, hold the embeddings that any other model has \
      computed: npz or HDF5 with the arrays keys, image and text, and if they are known boxes, text_keys and \
      logit_scale. The run then has no teacher.model: teacher={cache: caches/siglip}. The manual's article on \
      teachers describes the arrays.
      """, example: "mpirun -n 2 kinship precompute run.yaml --set teacher.cache=caches/large"))

  @Argument(help: ArgumentHelp("The run file (YAML). scripts/recipes/example.yaml shows every key.", valueName: "run"))
  var file: String
  @Option(
    name: .customLong("set"),
    help: ArgumentHelp(
      "Overrides one value, such as teacher.cache=caches/large. May be repeated; the last one wins.",
      valueName: "path=value"))
  var overrides: [String] = []
  @Option(
    name: .customLong("from"), parsing: .upToNextOption,
    help: ArgumentHelp("Files of embeddings, npz or HDF5, that another program has computed.", valueName: "files"))
  var files: [String] = []
  @Flag(help: "With --from: leaves out rows whose keys the dataset lacks. Default: they are an error.")
  var allowExtra = false

  func validate() throws { try require(!allowExtra || !files.isEmpty, "--allow-extra belongs to --from; leave it out") }

  func run() throws {
    let run = try RunConfig.load(file, overrides: overrides)
    let code = Job.run { ranks in
      Progress.enter(.working, after: 0)
      Watchdog.start(deadline: run.watchdog.deadline, over: ranks)
      let source = files.isEmpty ? nil : EmbeddingImport.Source(files: files, allowsExtra: allowExtra)
      return try Precomputation(run: run, ranks: ranks, source: source).perform().rawValue
    }
    if code != 0 { throw ExitCode(code) }
  }
}
