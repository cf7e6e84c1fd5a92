import Foundation
import Model
import Tensor
import Testing

@Suite struct HuggingFaceConfigTests {
  private func config(_ json: String) throws -> CLIPConfig { try CLIPConfig(huggingFace: Data(json.utf8)) }

  /// Missing keys have that library's defaults: ViT-B/32 with QuickGELU.
  @Test func fillsInDefaults() throws {
    #expect(try config(#"{"text_config": {}}"#) == CLIPConfig(preset: "ViT-B-32-quickgelu"))
    #expect(try CLIPConfig(preset: "ViT-B-32-quickgelu").activation == .quickGELU)
    #expect(try CLIPConfig(preset: "ViT-B-32").activation == .gelu)
  }

  /// Old files have two copies of each section; the second one counts.
  @Test func readsOldFiles() throws {
    let config = try config(
      #"{"model_type": "clip", "projection_dim": 768, "text_config": {"hidden_size": 512},"#
        + #""text_config_dict": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,"#
        + #""eos_token_id": 2, "hidden_act": "gelu"}, "vision_config_dict": {"hidden_size": 1024, "patch_size": 14,"#
        + #""intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "hidden_act": "gelu"},"#
        + #""vision_config": null, "architectures": ["CLIPModel"]}"#)
    #expect(try config == CLIPConfig(preset: "ViT-L-14"))
  }

  @Test(arguments: ["ViT-T-16", "ViT-B-16", "ViT-L-14", "ViT-B-32-quickgelu"])
  func keepsWhatItWrites(preset: String) throws {
    var config = try CLIPConfig(preset: preset)
    #expect(try CLIPConfig(huggingFace: config.huggingFaceJSON) == config)
    #expect(try CLIPConfig.isHuggingFace(json: config.huggingFaceJSON) && !CLIPConfig.isHuggingFace(json: config.json))
    // The ratio of these hidden units is not a Double.
    config.text.mlpRatio = 1001.0 / Double(config.text.width)
    let hidden = try CLIPConfig(huggingFace: config.huggingFaceJSON).text.hidden
    #expect(hidden == config.text.hidden)
  }

  @Test(arguments: [
    ("[]", "not a JSON object"), (#"{"model_type": "siglip", "text_config": {}}"#, "model_type is siglip"),
    (#"{"text_config": {"hidden_act": "relu"}}"#, "text_config.hidden_act is relu, and gelu or quick_gelu is wanted"),
    (#"{"text_config": {"hidden_act": "gelu"}}"#, "both towers must have the same"),
    (#"{"text_config": {"layer_norm_eps": 1e-6}}"#, "text_config.layer_norm_eps is 1e-06, and 1e-05 is wanted"),
    (#"{"text_config": {"eos_token_id": 5}}"#, "text_config.eos_token_id is 5, and the vocabulary's last token, 49407"),
    (#"{"text_config": {"hidden_size": "x"}}"#, "text_config.hidden_size is x, and a number is wanted"),
    (#"{"text_config": {}, "vision_config": {"num_channels": 1}}"#, "num_channels is 1, and 3 is wanted"),
    (#"{"text_config": {}, "vision_config": {"num_attention_heads": 0}}"#, "not a multiple of num_attention_heads 0"),
    (#"{"text_config": {}, "vision_config": {"hidden_act": 3}}"#, "hidden_act is 3, and a text is wanted"),
  ])
  func refusesWhatItIsNot(json: String, reason: String) {
    let error = #expect(throws: ConfigError.self) { try config(json) }
    #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
  }

  @Test func refusesToWriteResNets() throws {
    let error = #expect(throws: ConfigError.self) { try CLIPConfig(preset: "RN50").huggingFaceJSON }
    #expect(error?.description.contains("ResNet") == true)
  }
}
