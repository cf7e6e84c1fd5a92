import Testing

/// Everything that starts ranks. One job at a time: two would share the cores and slow each other down.
@Suite(.serialized)
enum MPITests {}
