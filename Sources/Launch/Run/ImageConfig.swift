import Model
import Settings

/// How pictures are prepared. Their size is the model's.
struct ImageConfig: Section {
  /// Which part of a training picture is seen: a box drawn anew for each view, or always the center, as evaluations see
  /// it.
  var crop = Crop.random
  /// Area of a training crop as a share of the picture, from and to.
  var scale = [0.9, 1.0]
  /// Width over height of a training crop, from and to.
  var ratio = [0.75, 4.0 / 3.0]
  var interpolation = Interpolation.bicubic
  /// What becomes of transparency: the picture is laid on white, or the alpha channel is dropped as open_clip does.
  var alpha = Alpha.white
  /// Whether a camera's orientation mark is followed; open_clip does not.
  var exif = Exif.ignore
  /// Subtracted from red, green and blue in 0 ... 1.
  var mean = [0.48145466, 0.4578275, 0.40821073]
  /// Divides red, green and blue after the mean is subtracted.
  var std = [0.26862954, 0.26130258, 0.27577711]
  var colorJitter = ColorJitterConfig()
  /// Share of training pictures that are turned gray.
  var grayscale = 0.0
  /// Whether large JPEGs are decoded at a fraction of their size for random crops.
  var scaledDCT = false
  /// Larger pictures are refused by their header, before they are decoded.
  var maxPixels = ImageDecoder.defaultMaxPixels

  enum Crop: String, CaseIterable, FieldValue { case random, center }
  enum Interpolation: String, CaseIterable, FieldValue { case bicubic }
  enum Alpha: String, CaseIterable, FieldValue { case white, drop }
  enum Exif: String, CaseIterable, FieldValue { case apply, ignore }

  mutating func fields(_ map: FieldMap) {
    map.field("crop", &crop)
    map.field("scale", &scale)
    map.field("ratio", &ratio)
    map.field("interpolation", &interpolation)
    map.field("alpha", &alpha)
    map.field("exif", &exif)
    map.field("mean", &mean)
    map.field("std", &std)
    map.field("color_jitter", &colorJitter)
    map.field("grayscale", &grayscale)
    map.field("scaled_dct", &scaledDCT)
    map.field("max_pixels", &maxPixels)
  }

  /// Whether a picture looks the same in every view.
  var isFixed: Bool { crop == .center && colorJitter.probability == 0 && grayscale == 0 }
}

/// Random change of a training picture's colours; all zero: none.
struct ColorJitterConfig: Section {
  /// Brightness, contrast and saturation are multiplied by a factor in [max(0, 1 − x), 1 + x].
  var brightness = 0.0
  var contrast = 0.0
  var saturation = 0.0
  /// Hue is turned by −x to x of the colour circle; at most 0.5.
  var hue = 0.0
  /// Share of training pictures that are changed.
  var probability = 0.0

  mutating func fields(_ map: FieldMap) {
    map.field("brightness", &brightness)
    map.field("contrast", &contrast)
    map.field("saturation", &saturation)
    map.field("hue", &hue)
    map.field("probability", &probability)
  }
}
