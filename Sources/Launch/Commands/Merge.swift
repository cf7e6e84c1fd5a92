import ArgumentParser
import Dist
import Foundation
import Model

struct Merge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Writes a checkpoint or the average of several models as one file, or a checkpoint with other parts.",
    discussion: """
      The file holds the model under open_clip's names; its sizes, its run and its provenance are in metadata \
      (safetensors) or attributes (HDF5), so kinship evaluate needs no other file. With --optimizer it also holds the \
      objective's own parameters and both AdamW moments of each parameter.

      Averages are computed in double precision and rounded once. Running statistics are averaged like weights; counts \
      are those of the checkpoint with the most steps. Averages hold weights only: to continue training from one, \
      begin a run with init.from. Models of an average may also be weights without a checkpoint, in any form that \
      kinship weights import reads. With two models and --weights 0.3,0.7 it is WiSE-FT's, between a model and its \
      tuned form: kinship evaluate --interpolate-to measures such averages before one is written.

      Numbers pass through in pieces, whatever the model's size. Under mpirun each rank writes a share of the file, \
      and the file is the same.

      Examples:

        kinship merge runs/mine -o student.safetensors
        kinship merge models/b16 runs/tuned --weights 0.3,0.7 -o between.safetensors
        kinship merge runs/mine --reshard 8 -o runs/eight
      """)

  @Argument(
    help: ArgumentHelp(
      "Checkpoints' folders, or runs' (their latest checkpoints; RUN/best: the best); for averages also weights.",
      valueName: "checkpoint"))
  var checkpoints: [String]
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("The file to write: .safetensors, .h5 or .hdf5; with --reshard the folder.", valueName: "path"))
  var output: String
  @Flag(help: "Writes everything that the checkpoint holds, not only the model.") var optimizer = false
  @Flag(help: "Takes the moving averages that checkpoints keep (ema in the run file) instead of their weights.")
  var emaWeights = false
  @OptionGroup var averaging: AverageOptions
  @OptionGroup var sizes: WeightsOptions
  @Option(help: ArgumentHelp("Writes a checkpoint with this many parts, from which runs resume.", valueName: "parts"))
  var reshard: Int?

  func validate() throws {
    let average = try averaging.chosen(for: checkpoints.count)
    if let reshard {
      try require((1...99_999).contains(reshard), "--reshard: expected 1 to 99999 parts, found \(reshard)")
      try require(
        average == nil && !optimizer && !emaWeights,
        "--reshard keeps all of one checkpoint; leave --optimizer, --ema-weights and averages out")
    } else {
      _ = try form
    }
    try require(
      !emaWeights || !optimizer,
      "--optimizer keeps weights and their moving average side by side; leave --ema-weights out")
    try require(average == nil || !optimizer, "moments of several checkpoints have no average; leave --optimizer out")
  }

  private var form: SharedTensorFile.Form {
    get throws {
      if output.hasSuffix(".safetensors") { return .safetensors }
      if HDF5Weights.endings.contains(where: output.hasSuffix) { return .hdf5 }
      throw ValidationError("--output: expected a name that ends in .safetensors, .h5 or .hdf5, found \(output)")
    }
  }

  func run() throws {
    try Job.perform { communicator in
      try communicator.together {
        guard communicator.rank == 0, FileManager.default.fileExists(atPath: output) else { return }
        throw UserError(output, "is there already; remove it, or name another", status: .usage)
      }
      let start = ContinuousClock.now
      let plan = try MergePlan(
        checkpoints, averaging.chosen(for: checkpoints.count), emaWeights: emaWeights, sizes, over: communicator)
      let contents = try write(plan, over: communicator)
      guard communicator.rank == 0 else { return }
      try StandardOutput.print(plan.config.summary)
      for (input, weight) in zip(plan.inputs, plan.weights) {
        let factor = plan.average == nil ? "" : "\(Figures.significant(weight, 6)) × "
        try StandardOutput.print("\(factor)\(input.path)" + (input.step.map { ", step \($0)" } ?? ""))
      }
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      try StandardOutput.print(
        "\(output): \(contents), in \(Figures.fixed(seconds, 1)) s, \(Int(ProcessMemory.peak)) MiB of memory a rank")
    }
  }

  private func write(_ plan: MergePlan, over communicator: Communicator) throws -> String {
    if let reshard, let checkpoint = plan.last.checkpoint {
      try plan.merge.reshard(checkpoint, into: reshard, folder: output, version: Release.version, over: communicator)
      return "a checkpoint of \(Figures.count(reshard, "part"))"
    }
    let tensors = try plan.tensors(optimizer: optimizer)
    try plan.merge.write(
      tensors, metadata: plan.metadata(optimizer: optimizer), as: form, to: output, over: communicator)
    let bytes = tensors.reduce(0) { $0 + $1.description.byteCount }
    return "\(Figures.count(tensors.count, "tensor")), \(Figures.bytes(bytes))"
  }
}
