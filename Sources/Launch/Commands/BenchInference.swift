import ArgumentParser

extension Bench {
  struct Inference: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Times the embedding of one image, of one caption, and of many together.",
      discussion: help(
        """
        Latencies are medians and 99th percentiles over repetitions, after calls that warm up, with the threads of the \
        cores that the process is bound to: bind it to one core (taskset -c 0) for the latency on one. Memory is what \
        the process has had at most when it has embedded single images and captions, before batches. Embeddings have \
        length 1; images are prepared already, and captions are token ids. scripts/bench export measures the forms in \
        which a run is exported side by side. The last line is one JSON object.
        """, example: "mpirun -n 1 --bind-to core kinship bench inference --checkpoint runs/mine"))

    @OptionGroup var source: ModelSource
    @Option(
      parsing: .upToNextOption, help: "What is measured: latency, throughput. Default: both.",
      transform: Bench.word { "--measure is latency or throughput, not \($0)" })
    var measure = InferenceBench.Measurement.allCases
    @Option(help: "Repetitions of a latency.") var repetitions = 200
    @Option(help: "Images, and captions, that are embedded together for the throughput.") var batch = 64
    @Option(help: "Seconds spent on each throughput.") var seconds = 2.0
    @Option(
      help: "Tokens of a caption, including start and end. Default: 16, or the whole context if that is shorter.")
    var captionTokens: Int?

    func validate() throws {
      try require(
        Bench.repetitions ~= repetitions && Bench.pairs ~= batch && seconds > 0 && seconds <= 1e6,
        "--repetitions is \(Bench.repetitions.text), --batch \(Bench.pairs.text), --seconds more than 0 and at most "
          + "1e6")
      try require(
        captionTokens ?? 2 >= 2 && !measure.isEmpty, "--caption-tokens is at least 2, and --measure names a figure")
    }

    func run() throws {
      let bench = InferenceBench(
        source: source, measurements: Set(measure), repetitions: repetitions, batch: batch, seconds: seconds,
        captionTokens: captionTokens)
      try Bench.run { try bench.run($0, log: $1) }
    }
  }
}
