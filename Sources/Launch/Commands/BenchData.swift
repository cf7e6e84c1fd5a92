import ArgumentParser
import Model

extension Bench {
  struct Data: ParsableCommand, BenchInputDefaults {
    static let model = "ViT-64-T-16"
    static let batch = 64

    static let configuration = CommandConfiguration(
      abstract: "Times the preparation of images by format and size, and a loader beside the steps it feeds.",
      discussion: help(
        """
        Images with about the detail of photographs are generated, unless a dataset is given: then its own images are \
        measured, by format and size. Each is decoded and prepared as in training (a random crop) and as in \
        evaluations, by one core of each rank at the same time. Then the fastest model trains on images that are \
        already in memory, and on images that the loader of a run prepares beside it. The last line is one JSON object.
        """, example: "kinship bench data --formats jpeg --sides 512 1024"))

    @Option(
      parsing: .upToNextOption, help: "Formats of the generated images: jpeg, png, webp.",
      transform: Bench.word { "--formats has jpeg, png and webp, not \($0)" })
    var formats = ImageFormat.allCases
    @Option(parsing: .upToNextOption, help: "Longer sides of the generated images, in pixels.")
    var sides = [64, 224, 512, 1024]
    @Option(
      name: [.long, .customLong("corpus")], help: "A dataset whose images are measured instead of generated ones.")
    var dataset: String?
    @Option(
      name: [.long, .customLong("pictures")],
      help: "How many images are generated of each kind (8), or read from the dataset in total (512).")
    var images: Int?
    @Option(help: "Side of the prepared images, in pixels.") var crop = 224
    @Flag(
      name: .customLong("scaled-dct"),
      help: "Decodes large JPEGs for random crops at a reduced size where that suffices, as image.scaled_dct does.")
    var scaledDCT = false
    @Option(help: "Seconds spent on each figure.") var seconds = 0.5
    @OptionGroup(title: "The model that is fed") var input: BenchInputOptions<Self>
    @Option(help: "Steps on images that are in memory, and on images of the loader.") var steps = 20
    @Option(help: "Longer side of the JPEGs that feed it where no dataset is given.") var feedSide = 256

    func validate() throws {
      guard !formats.isEmpty, !sides.isEmpty, (sides + [feedSide]).allSatisfy({ 1...8192 ~= $0 }),
        Bench.repetitions ~= images ?? 1
      else {
        throw ValidationError(
          "--formats are at least 1, --images \(Bench.repetitions.text), --sides and --feed-side 1 to 8192")
      }
      try require(
        1...4096 ~= crop && seconds > 0 && seconds <= 1e6 && Bench.repetitions ~= steps,
        "--crop is 1 to 4096, --seconds more than 0 and at most 1e6, --steps \(Bench.repetitions.text)")
    }

    func run() throws {
      let bench = DataBench(
        formats: formats, sides: sides, dataset: dataset, count: images ?? (dataset == nil ? 8 : 512), crop: crop,
        scaledDCT: scaledDCT, seconds: seconds, feed: FeedBench(work: input.work, steps: steps, side: feedSide))
      try Bench.run { try bench.run($0, log: $1) }
    }
  }
}
