import ArgumentParser
import Model

extension Bench {
  struct Data: ParsableCommand, BenchInputDefaults {
    static let model = "ViT-64-T-16"
    static let batch = 64

    static let configuration = CommandConfiguration(
      abstract: "Time the preparation of pictures by format and size, and a loader beside the steps it feeds.",
      discussion: """
        Pictures are made, with about the detail of photographs, unless a corpus is given: then its own are measured, by \
        format and size. Each is decoded and prepared as training does it (a random crop) and as evaluations do, by one core \
        of each rank at the same time. Then the fastest model trains on pictures that are there, and on pictures that the \
        loader of a run prepares beside it. The last line is one JSON object.
        """)

    @Option(
      parsing: .upToNextOption, help: "Formats of the pictures that are made: jpeg, png, webp.",
      transform: { name in
        guard let format = ImageFormat(rawValue: name) else {
          throw ValidationError("--formats has jpeg, png and webp, not \(name)")
        }
        return format
      })
    var formats = ImageFormat.allCases

    @Option(parsing: .upToNextOption, help: "Longer sides of the pictures that are made, in pixels.")
    var sides = [64, 224, 512, 1024]

    @Option(help: "A corpus with pictures to measure in place of made ones.")
    var corpus: String?

    @Option(help: "Pictures of each kind that are made (8), or of the corpus in all (512).")
    var pictures: Int?

    @Option(help: "Side of the prepared pictures, in pixels.")
    var crop = 224

    @Flag(
      name: .customLong("scaled-dct"),
      help: "Decodes large JPEGs for random crops as image.scaled_dct does, where a part of their size is enough.")
    var scaledDCT = false

    @Option(help: "Seconds for each figure.")
    var seconds = 0.5

    @OptionGroup(title: "The model that is fed") var input: BenchInputOptions<Self>

    @Option(help: "Steps on pictures that are there, and on pictures of the loader.")
    var steps = 20

    @Option(help: "Longer side of the JPEGs that feed it, where there is no corpus.")
    var feedSide = 256

    func validate() throws {
      guard !formats.isEmpty, !sides.isEmpty, (sides + [feedSide]).allSatisfy({ 1...8192 ~= $0 }), pictures ?? 1 > 0
      else {
        throw ValidationError("--formats and --pictures are at least 1, --sides and --feed-side 1 to 8192")
      }
      guard 1...4096 ~= crop, seconds > 0, seconds.isFinite, steps > 0 else {
        throw ValidationError("--crop is 1 to 4096, --seconds more than 0, --steps at least 1")
      }
    }

    func run() throws {
      let bench = DataBench(
        formats: formats, sides: sides, corpus: corpus, count: pictures ?? (corpus == nil ? 8 : 512), crop: crop,
        scaledDCT: scaledDCT, seconds: seconds,
        feed: FeedBench(
          preset: input.model, batch: input.batch, captionTokens: input.captionTokens, steps: steps, side: feedSide))
      try Bench.run { try bench.run($0, say: $1) }
    }
  }
}
