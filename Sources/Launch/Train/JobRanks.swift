import Dist
import Model
import Tensor

/// The ranks of a job, as losses see them: where Model's protocol meets Dist's communicator.
struct JobRanks<S: Scalar>: Ranks {
  let communicator: Communicator

  func allGather(_ local: Tensor<S>, into all: Tensor<S>) throws { try communicator.allGather(rows: local, into: all) }
  func allReduce(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers) }
  func allReduceMaximum(_ numbers: inout [Double]) throws { try communicator.allReduce(&numbers, .maximum) }
}
