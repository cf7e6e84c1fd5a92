import Settings

/// The names and layouts of Hugging Face's `CLIPModel`, by open_clip's names.
enum HuggingFaceNames {
  /// The place of one of our tensors in Hugging Face's file.
  struct Place: Equatable {
    /// The name of its tensor there, or the names of several that split its rows: queries, keys and values.
    let names: [String]
    /// True if the tensor there is the transpose of ours.
    var isTransposed = false
  }

  /// The names of position ids that old files hold and nothing reads.
  static let ignored: Set = ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"]

  /// Returns the place of the tensor with open_clip's name `name`; nil for tensors that `CLIPModel` lacks, such as a
  /// ResNet's.
  static func place(of name: String) -> Place? {
    if let place = single[name] { return place }
    for (ours, theirs) in norms where name.hasPrefix(ours) {
      return Place(names: [theirs + name.dropFirst(ours.count)])
    }
    for (ours, theirs) in stacks where name.hasPrefix(ours) {
      let parts = name.dropFirst(ours.count).split(separator: ".", maxSplits: 1)
      guard parts.count == 2 else { return nil }
      return place(in: "\(theirs)\(parts[0]).", of: String(parts[1]))
    }
    return nil
  }

  /// Returns the place of a tensor within a block, whose name there begins with `block`.
  private static func place(in block: String, of name: String) -> Place? {
    for kind in ["weight", "bias"] where name == "attn.in_proj_\(kind)" {
      return Place(names: ["q", "k", "v"].map { "\(block)self_attn.\($0)_proj.\(kind)" })
    }
    for (ours, theirs) in layers where name.hasPrefix(ours) {
      return Place(names: [block + theirs + name.dropFirst(ours.count)])
    }
    return nil
  }

  private static let single: [String: Place] = [
    "logit_scale": Place(names: ["logit_scale"]),
    "text_projection": Place(names: ["text_projection.weight"], isTransposed: true),
    "visual.proj": Place(names: ["visual_projection.weight"], isTransposed: true),
    "token_embedding.weight": Place(names: ["text_model.embeddings.token_embedding.weight"]),
    "positional_embedding": Place(names: ["text_model.embeddings.position_embedding.weight"]),
    "visual.class_embedding": Place(names: ["vision_model.embeddings.class_embedding"]),
    "visual.positional_embedding": Place(names: ["vision_model.embeddings.position_embedding.weight"]),
    "visual.conv1.weight": Place(names: ["vision_model.embeddings.patch_embedding.weight"]),
  ]

  /// The misspelling pre_layrnorm is Hugging Face's.
  private static let norms = [
    ("ln_final.", "text_model.final_layer_norm."), ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
  ]

  private static let stacks = [
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
  ]

  private static let layers = [
    ("ln_1.", "layer_norm1."), ("ln_2.", "layer_norm2."), ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."), ("mlp.c_proj.", "mlp.fc2."),
  ]
}
