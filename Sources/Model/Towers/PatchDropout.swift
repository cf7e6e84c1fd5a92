public import Tensor

// Training that leaves out a share of each image's patches (Li et al.: Scaling Language-Image Pre-training via Masking,
// 2022), as open_clip's `patch_dropout` has it. Evaluations and teachers see all patches.

extension VisionConfig {
  /// The number of an image's tokens in training: the class token, and as many patches as open_clip keeps.
  public var trainedTokens: Int { 1 + max(1, Int(Double(grid * grid) * (1 - patchDropout))) }

  /// Returns the number of an image's tokens that a tower computes in this use.
  func tokens(in use: TowerUse) -> Int { use == .forward ? tokens : trainedTokens }

  /// Returns the tokens of one image in training, in ascending order: the class token, 0, and some of the patches,
  /// which count from 1. All sets of as many patches are equally probable.
  public func keptTokens(_ random: KeyedRandom) -> [Int] {
    let (patches, count) = (grid * grid, trainedTokens)
    var random = random
    var kept = [0]
    kept.reserveCapacity(count)
    // Knuth's selection sampling: a patch is kept with the share of the patches from it on that are still missing.
    for patch in 1...patches {
      if random.below(patches - patch + 1) < count - kept.count { kept.append(patch) }
    }
    return kept
  }
}
