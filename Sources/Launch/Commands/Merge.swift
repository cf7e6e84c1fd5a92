import ArgumentParser
import Dist
import Foundation
import Model

struct Merge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Writes a checkpoint or the average of several as one file, or a checkpoint with other parts.",
    discussion: """
      The file holds the model under open_clip's names; its sizes, its run and its provenance are in metadata \
      (safetensors) or attributes (HDF5), so kinship evaluate needs no other file. With --optimizer it also holds the \
      objective's own parameters and both AdamW moments of each parameter.

      Averages are computed in double precision and rounded once. Running statistics are averaged like weights; counts \
      are those of the checkpoint with the most steps. Averages hold weights only: to continue training from one, \
      begin a run with init.inherit.

      Numbers pass through in pieces, whatever the model's size. Under mpirun each rank writes a share of the file, \
      and the file is the same.

      Examples:

        kinship merge runs/mine -o student.safetensors
        kinship merge runs/mine --reshard 8 -o runs/eight
      """)

  @Argument(help: ArgumentHelp("Checkpoints' folders, or runs' (their latest checkpoints).", valueName: "checkpoint"))
  var checkpoints: [String]
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("The file to write: .safetensors, .h5 or .hdf5; with --reshard the folder.", valueName: "path"))
  var output: String
  @Flag(help: "Writes everything that the checkpoint holds, not only the model.") var optimizer = false
  @Flag(help: "Writes the moving average of the weights (ema in the run file) instead of the weights.")
  var emaWeights = false
  @OptionGroup var averaging: AverageOptions
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
        checkpoints, averaging.chosen(for: checkpoints.count), emaWeights: emaWeights, over: communicator)
      let contents = try write(plan, over: communicator)
      guard communicator.rank == 0 else { return }
      try StandardOutput.print(plan.config.summary)
      for input in plan.inputs {
        let weight = plan.average == nil ? "" : "\(Figures.significant(input.weight, 6)) × "
        let step = input.checkpoint.manifest.record.step
        try StandardOutput.print("\(weight)\(input.checkpoint.folder), step \(step)")
      }
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      try StandardOutput.print(
        "\(output): \(contents), in \(Figures.fixed(seconds, 1)) s, \(Int(ProcessMemory.peak)) MiB of memory a rank")
    }
  }

  private func write(_ plan: MergePlan, over communicator: Communicator) throws -> String {
    let merge = CheckpointMerge(plan.inputs.map { ($0.checkpoint, $0.weight) })
    if let reshard {
      try merge.reshard(
        plan.last.checkpoint, into: reshard, folder: output, version: Release.version, over: communicator)
      return "a checkpoint of \(Figures.count(reshard, "part"))"
    }
    let tensors = try plan.tensors(optimizer: optimizer)
    try merge.write(tensors, metadata: plan.metadata(optimizer: optimizer), as: form, to: output, over: communicator)
    let bytes = tensors.reduce(0) { $0 + $1.description.byteCount }
    return "\(Figures.count(tensors.count, "tensor")), \(Figures.bytes(bytes))"
  }
}
