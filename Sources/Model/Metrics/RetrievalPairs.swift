/// The captions that belong to each image, and the images that belong to each caption.
/// Captions with the same cleaned text are one: each of them is an answer for every image that has any of them, and
/// each of these images for it. Otherwise a dataset with repeated captions would count correct results as wrong.
public struct RetrievalPairs: Sendable {
  /// The number of images.
  public let images: Int
  /// The number of each caption's text.
  private var textOfCaption: [Int]
  /// The captions of each text, and the images that have it.
  private var captionsOfText: [[Int]]
  private var imagesOfText: [[Int]]
  /// The distinct texts of each image.
  private var textsOfImage: [[Int]]

  /// The number of captions.
  public var captions: Int { textOfCaption.count }

  /// Creates the pairs, given the index of each caption's image and the number of its text, as `texts(of:)` returns it.
  public init(images: Int, captionImage: [Int], captionText: [Int]) {
    precondition(captionImage.count == captionText.count, "\(captionImage.count) images, \(captionText.count) texts")
    self.images = images
    textOfCaption = captionText
    captionsOfText = [[Int]](repeating: [], count: (captionText.max() ?? -1) + 1)
    imagesOfText = captionsOfText
    textsOfImage = [[Int]](repeating: [], count: images)
    var known: Set<[Int]> = []
    for (caption, (image, text)) in zip(captionImage, captionText).enumerated() {
      captionsOfText[text].append(caption)
      if known.insert([image, text]).inserted {
        textsOfImage[image].append(text)
        imagesOfText[text].append(image)
      }
    }
    precondition(!captionsOfText.contains(where: \.isEmpty), "the numbers of the texts have a gap")
  }

  /// The first caption of every text; these are the captions of `distinct`.
  public var firstCaptions: [Int] { captionsOfText.map { $0[0] } }

  /// The same pairs with every text once, in the order of `firstCaptions`.
  public var distinct: RetrievalPairs {
    var pairs = self
    pairs.textOfCaption = Array(captionsOfText.indices)
    pairs.captionsOfText = captionsOfText.indices.map { [$0] }
    return pairs
  }

  /// Returns the captions that are answers for an image.
  public func captions(answering image: Int) -> [Int] { textsOfImage[image].flatMap { captionsOfText[$0] } }
  /// Returns the images that are answers for a caption.
  public func images(answering caption: Int) -> [Int] { imagesOfText[textOfCaption[caption]] }

  /// Returns the number of each caption's cleaned text, from 0 and without gaps; equal texts have the same number.
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
