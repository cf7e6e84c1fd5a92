import ArgumentParser
import Foundation
import Model
import Settings
import Tensor

extension Bench {
  struct Step: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Times a training step and its parts against the matrix products it is made of.",
      discussion: help(
        """
        The share of the roof is 3 × the forward's matrix operations (packed tokens, attention included) over the \
        time of a step, divided by the rate of matrix products of the step's own shapes, each in its own precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks together before and after. The processor's limit, \
        measured beside it, is the rate of independent multiply-adds on registers: FMAs as wide as its vectors in \
        fp32, dot products or AMX's tiles in bf16. Only operations that are computed count (of a transformer's last \
        block keys and values of all tokens, and the rest of the one that is read), and those repeated by --recompute \
        or --micro-batch-size do not. The last line is one JSON object.
        """, example: "mpirun -n 2 kinship bench step --recompute none cheap blocks"))

    @OptionGroup var input: BenchInputOptions<Self>
    @Option(help: "Steps to time; the median counts.") var steps = 5
    @Option(help: "Pairs that go through the towers together. Default: all pairs of a rank.") var microBatchSize: Int?
    @Option(
      help: "A preset of an objective; the teacher's embeddings are made up.",
      transform: Bench.word {
        let known = ObjectivePreset.allCases.map(\.rawValue).joined(separator: ", ")
        return "no objective is called \($0); there are \(known)"
      })
    var objective = ObjectivePreset.intra
    @Option(help: "Precision of the operands of the towers' products: fp32 or bf16.", transform: Bench.precision)
    var precision = ComputePrecision.fp32
    @Option(
      parsing: .upToNextOption,
      help: "Activations that backward recomputes: none, cheap, blocks; several are measured one after another.",
      transform: Bench.word { "--recompute is \(Recompute.expectation), not \($0)" })
    var recompute = [Recompute.none]
    @Option(help: "Share of an image's patches that the step leaves out (vision_cfg.patch_dropout).")
    var patchDropout = 0.0

    func validate() throws {
      try require(0..<1 ~= patchDropout, "--patch-dropout is at least 0 and less than 1")
      try require(
        Bench.repetitions ~= steps && microBatchSize ?? 1 > 0 && !recompute.isEmpty,
        "--steps is \(Bench.repetitions.text), --micro-batch-size at least 1, and --recompute names a choice")
    }

    func run() throws {
      var work = input.work
      work.patchDropout = patchDropout
      let bench = StepBench(
        work: work, steps: steps, microBatchSize: microBatchSize, objective: objective, precision: precision,
        recompute: recompute)
      try Bench.run { try bench.run($0, log: $1) }
    }
  }

  struct Ranks: ParsableCommand, BenchInputDefaults {
    static let configuration = CommandConfiguration(
      abstract: "Times a training step on rising numbers of ranks, with the same work for each rank.",
      discussion: help(
        """
        Steps that communicate while the towers compute alternate with steps that do not. Exposed communication is the \
        time that a rank waits for gradients and parameters; efficiency is the step time of one rank divided by that \
        of all. The last line is one JSON object.
        """, example: "mpirun -n 4 kinship bench ranks --sizes 1 2 4"))

    @OptionGroup var input: BenchInputOptions<Self>
    @Option(help: "Steps in a round.") var steps = 3
    @Option(help: "Rounds with overlap, and without it; the median counts.") var rounds = 3
    @Option(parsing: .upToNextOption, help: "Numbers of ranks; those that exceed the job are left out.")
    var sizes = [1, 2, 4]
    @Option(help: "Size of a gradient bucket, in MiB.") var bucket = ReduceConfig().bucket

    func validate() throws {
      try require(
        Bench.repetitions ~= steps && Bench.repetitions ~= rounds && !sizes.isEmpty && sizes.allSatisfy({ $0 > 0 }),
        "--steps and --rounds are \(Bench.repetitions.text), and --sizes at least 1")
      try require(ReduceConfig.buckets ~= bucket && bucket > 0, "--bucket is more than 0 MiB, 1048576 at most")
    }

    func run() throws {
      var bench = RanksBench(work: input.work, steps: steps, rounds: rounds, sizes: sizes.sorted())
      bench.reduce.bucket = bucket
      try Bench.run { [bench] in try bench.run($0, log: $1) }
    }
  }

  struct Exact: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Compares training steps on all ranks with the same steps on one.",
      discussion: help(
        """
        Small models of both kinds train twice, on all ranks together and on each rank alone, and their losses and \
        parameters are compared. The last line is one JSON object; the exit code is 70 if they differ by more than \
        rounding.
        """, example: "mpirun -n 3 kinship bench exact --pairs 13"))

    @Option(help: "Training steps.") var steps = 20
    @Option(help: "The global batch, in pairs.") var pairs = 13
    @Flag(help: "Computes in double precision.") var double = false
    @Option(help: "Size of a gradient bucket, in MiB.") var bucket = 0.1
    @Option(help: "Levels of the exchange between ranks and nodes, as reduce.levels of a run file.")
    var levels = ReduceLevels.auto

    func validate() throws {
      try require(
        Bench.repetitions ~= steps && Bench.pairs ~= pairs && pairs > 2 && ReduceConfig.buckets ~= bucket && bucket > 0,
        "--steps is \(Bench.repetitions.text), --pairs 3 to \(Bench.pairs.upperBound), "
          + "--bucket more than 0 and at most 1048576 MiB")
    }

    func run() throws {
      let bench = ExactnessBench(steps: steps, pairs: pairs, bucket: bucket, levels: levels)
      try Bench.run(keys: .useDefaultKeys) { [double] in
        double ? try bench.run(Double.self, $0, log: $1) : try bench.run(Float.self, $0, log: $1)
      }
    }
  }

  struct Teacher: ParsableCommand, BenchInputDefaults {
    static let model = "ViT-B-16"
    static let batchHelp = "Pairs of a rank that go through the towers together."

    static let configuration = CommandConfiguration(
      abstract: "Times a teacher's forward with its weights in each placement, side by side.",
      discussion: help(
        """
        The share of the roof is the forward's matrix operations (as kinship bench step counts them) over the time of \
        images and captions, divided by the rate of matrix products of the same shapes in the same precision \
        (OpenBLAS in fp32, oneDNN in bf16), measured on all ranks together between the placements; the processor's \
        limit as in `kinship bench step`. Features must be bit-identical. The last line is one JSON object.
        """, example: "mpirun -n 2 kinship bench teacher --placement node replicated"))

    @OptionGroup var input: BenchInputOptions<Self>
    @Option(
      parsing: .upToNextOption, help: "Placements of its weights: node, sharded, replicated.",
      transform: Bench.word { "no placement is called \($0); there are \(TeacherPlacement.expectation)" })
    var placement = TeacherPlacement.allCases
    @Option(help: "Forwards to time in each placement; the median counts.") var passes = 5
    @Option(
      help: "Precision of the operands of the towers' products: fp32, or bf16 (not with sharded).",
      transform: Bench.precision)
    var precision = ComputePrecision.fp32

    func validate() throws {
      try require(
        precision == .fp32 || !placement.contains(.sharded),
        "--precision bf16 takes --placement node replicated: sharded weights are not rounded")
      try require(
        Bench.repetitions ~= passes && !placement.isEmpty,
        "--passes is \(Bench.repetitions.text), and placements are at least 1")
    }

    func run() throws {
      let bench = TeacherBench(work: input.work, placements: placement, passes: passes, precision: precision)
      try Bench.run { try bench.run($0, log: $1) }
    }
  }

  struct ObjectiveTerms: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "objective",
      abstract: "Times the objective and measures its memory on random embeddings of rising batches.",
      discussion: help(
        """
        The share of the roof is the rate of all matrix products that were computed, divided by that of sgemm at the \
        same shapes, measured on all ranks together afterwards; "once" does not count tiles that are computed a second \
        time for the gradient. The JSON object on the last line also has the share of the processor's own rate.
        """, example: "mpirun -n 2 kinship bench objective --pairs 1024 4096"))

    @Option(parsing: .upToNextOption, help: "Global batches, in pairs.")
    var pairs = [1024, 2048, 4096, 8192, 16384, 32768]
    @Option(help: "Width of the student's embeddings.") var student = 512
    @Option(help: "Width of the teacher's embeddings.") var teacher = 768
    @Option(help: "Weight of ICL beside the preset intra.") var icl = 1.0

    func validate() throws {
      try require(
        !pairs.isEmpty && (pairs + [student, teacher]).allSatisfy { Bench.pairs ~= $0 } && icl.isFinite,
        "--pairs, --student and --teacher are \(Bench.pairs.text), and --icl is finite")
    }

    func run() throws {
      var bench = ObjectiveBench(studentWidth: student, teacherWidth: teacher, pairs: pairs)
      bench.options[ICLSettings.self].weight = Scheduled(icl)
      try Bench.run { [bench] in try bench.run($0, log: $1) }
    }
  }
}
