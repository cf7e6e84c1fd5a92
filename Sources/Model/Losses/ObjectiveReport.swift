/// What a step's objective came to: the same on every rank.
public struct ObjectiveReport: Equatable, Sendable {
  public struct Term: Equatable, Sendable {
    /// The key of the term; of the intra-modal term `intra_image` or `intra_text`.
    public var name: String
    /// 0 for a term that only weighs the anchors of another.
    public var weight: Double
    /// Before the weight.
    public var value: Double

    public init(name: String, weight: Double, value: Double) {
      self.name = name
      self.weight = weight
      self.value = value
    }
  }

  /// One modality's anchors: their divergences D, and their weights as multiples of 1/N.
  public struct Anchors: Equatable, Sendable {
    public var name: String
    public var divergenceMean: Double
    public var divergenceDeviation: Double
    public var weightMean: Double
    public var weightDeviation: Double
  }

  /// Σ weight · value.
  public var total: Double
  public var terms: [Term]
  public var anchors: [Anchors] = []
  /// What the user should know; the same words every step.
  public var notes: [String] = []
}
