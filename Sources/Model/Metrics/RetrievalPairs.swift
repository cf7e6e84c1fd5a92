/// Which captions belong to which pictures, in both directions.
///
/// Captions whose texts are equal once cleaned are the same caption: each of them answers for every picture that has
/// one of them, and each of these pictures answers for it. A corpus with repeated captions would else punish a model
/// for being right.
public struct RetrievalPairs: Sendable {
  public let images: Int
  /// By caption: the number of its text.
  private let textOfCaption: [Int]
  /// By text: its captions, and the pictures that have it.
  private let captionsOfText: [[Int]]
  private let imagesOfText: [[Int]]
  /// By picture: the different texts that it has.
  private let textsOfImage: [[Int]]

  public var captions: Int { textOfCaption.count }

  /// - Parameters:
  ///   - captionImage: the picture of each caption.
  ///   - captionText: a number for each caption's text, as `texts(of:)` gives it.
  public init(images: Int, captionImage: [Int], captionText: [Int]) {
    precondition(captionImage.count == captionText.count, "\(captionImage.count) pictures, \(captionText.count) texts")
    var captionsOfText = [[Int]](repeating: [], count: (captionText.max() ?? -1) + 1)
    var imagesOfText = captionsOfText
    var textsOfImage = [[Int]](repeating: [], count: images)
    var known: Set<[Int]> = []
    for (caption, (image, text)) in zip(captionImage, captionText).enumerated() {
      captionsOfText[text].append(caption)
      if known.insert([image, text]).inserted {
        textsOfImage[image].append(text)
        imagesOfText[text].append(image)
      }
    }
    precondition(!captionsOfText.contains(where: \.isEmpty), "texts are numbered without a gap")
    self.init(
      images: images, textOfCaption: captionText, captionsOfText: captionsOfText, imagesOfText: imagesOfText,
      textsOfImage: textsOfImage)
  }

  private init(
    images: Int, textOfCaption: [Int], captionsOfText: [[Int]], imagesOfText: [[Int]], textsOfImage: [[Int]]
  ) {
    self.images = images
    self.textOfCaption = textOfCaption
    self.captionsOfText = captionsOfText
    self.imagesOfText = imagesOfText
    self.textsOfImage = textsOfImage
  }

  /// The first caption of every text: the captions that are left in `distinct`.
  public var firstCaptions: [Int] { captionsOfText.map { $0[0] } }

  /// The same with every text once, in the order of `firstCaptions`.
  public var distinct: RetrievalPairs {
    RetrievalPairs(
      images: images, textOfCaption: Array(captionsOfText.indices), captionsOfText: captionsOfText.indices.map { [$0] },
      imagesOfText: imagesOfText, textsOfImage: textsOfImage)
  }

  /// The captions that answer for a picture.
  public func captions(answering image: Int) -> [Int] { textsOfImage[image].flatMap { captionsOfText[$0] } }

  /// The pictures that answer for a caption.
  public func images(answering caption: Int) -> [Int] { imagesOfText[textOfCaption[caption]] }

  /// A number for each caption, shared by those whose texts are equal once cleaned for the tokenizer.
  public static func texts(of captions: some Sequence<String>) -> [Int] {
    var numbers: [[Unicode.Scalar]: Int] = [:]
    return captions.map { caption in
      let text = TextCleaner.clean(caption)
      if let number = numbers[text] { return number }
      numbers[text] = numbers.count
      return numbers.count - 1
    }
  }
}
