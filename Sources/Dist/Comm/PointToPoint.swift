internal import CMPI

/// Messages from one rank to another. Training has none; they are there to measure what lies between two ranks.
extension Communicator {
  /// Sends bytes to another rank, which must receive as many.
  public func send(_ bytes: inout [UInt8], to peer: Int) throws(MPIError) {
    precondition(bytes.count <= limit)
    try collective("send to a rank") { () throws(MPIError) in
      unsafe try lend(&bytes) { base, count throws(MPIError) in
        unsafe try check(
          "MPI_Send",
          MPI_Send(base, Int32(count), kinship_mpi_byte(), Int32(truncatingIfNeeded: peer), 0, handle))
      }
    }
  }

  /// Replaces `bytes` by as many from another rank.
  public func receive(into bytes: inout [UInt8], from peer: Int) throws(MPIError) {
    precondition(bytes.count <= limit)
    try collective("receive from a rank") { () throws(MPIError) in
      unsafe try lend(&bytes) { base, count throws(MPIError) in
        unsafe try check(
          "MPI_Recv",
          MPI_Recv(
            base, Int32(count), kinship_mpi_byte(), Int32(truncatingIfNeeded: peer), 0, handle,
            kinship_mpi_status_ignore()))
      }
    }
  }
}
