import Tensor

/// The hidden units of a tower that a pruning mask leaves: what the tower's layer norms look at.
///
/// A unit that is masked away is 0 in every row, which would still count in a row's mean and variance; the model that
/// is cut later does not have it, so it must not count.
final class Survivors<S: Scalar> {
  /// Their numbers, rising; nil: all, and layer norms are as they always were.
  var units: [Int]?

  /// The surviving columns, side by side.
  struct Narrow {
    let x = Buffer<S>()
    let y = Buffer<S>()
    /// All columns again, before they are rounded.
    let whole = Buffer<S>()
    let dx = Buffer<S>()
    let affine = Buffer<S>()
    let daffine = Buffer<S>()
  }
  let narrow = Narrow()
}
