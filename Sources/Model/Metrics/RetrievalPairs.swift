internal import Tensor

/// The captions that belong to each image, and the images that belong to each caption.
/// Captions with the same cleaned text are one: each of them is an answer for every image that has any of them, and
/// each of these images for it. Otherwise a dataset with repeated captions would count correct results as wrong.
///
/// Every rank holds all of them, in `bytes`: 8 for each image with each of its distinct texts, 8 for each caption and
/// each text, and 4 for each image.
public struct RetrievalPairs: Sendable {
  /// The number of images.
  public let images: Int
  /// The number of each caption's text.
  private var textOfCaption: [Int32]
  /// The captions of each text, rising, and the images that have it, rising.
  private var captionsOfText: NumberLists
  private var imagesOfText: NumberLists
  /// The distinct texts of each image.
  private var textsOfImage: NumberLists

  /// The number of captions.
  public var captions: Int { textOfCaption.count }

  /// Returns a bound on the bytes of pairs of so many images and captions.
  public static func bytes(images: Int, captions: Int) -> Int { 4 * images + 24 * captions }

  /// Creates the pairs, given the index of each caption's image and the number of its text, as `texts(of:)` returns it.
  /// There must be fewer than 2³¹ captions and images.
  public init(images: Int, captionImage: [Int], captionText: [Int]) {
    precondition(captionImage.count == captionText.count, "\(captionImage.count) images, \(captionText.count) texts")
    precondition(max(images, captionImage.count) <= Int32.max, "2³¹ captions or images and more")
    self.images = images
    textOfCaption = captionText.map { Int32($0) }
    let texts = (captionText.max() ?? -1) + 1
    captionsOfText = NumberLists(texts, captionText.indices.lazy.map { (captionText[$0], $0) })
    let captionsOfImage = NumberLists(images, captionImage.indices.lazy.map { (captionImage[$0], $0) })
    var pairs: [(image: Int, text: Int)] = []
    pairs.reserveCapacity(captionImage.count)
    for image in 0..<images {
      let own = captionsOfImage[image].map { captionText[$0] }
      var known: Set<Int> = []
      for text in own where own.count == 1 || known.insert(text).inserted { pairs.append((image, text)) }
    }
    textsOfImage = NumberLists(images, pairs.lazy.map { ($0.image, $0.text) })
    imagesOfText = NumberLists(texts, pairs.lazy.map { ($0.text, $0.image) })
    precondition(!(0..<texts).contains { captionsOfText[$0].isEmpty }, "the numbers of the texts have a gap")
  }

  /// The first caption of every text; these are the captions of `distinct`.
  public var firstCaptions: [Int] { (0..<captionsOfText.count).map { captionsOfText[$0][0] } }

  /// The same pairs with every text once, in the order of `firstCaptions`.
  public var distinct: RetrievalPairs {
    var pairs = self
    let texts = 0..<captionsOfText.count
    pairs.textOfCaption = texts.map { Int32($0) }
    pairs.captionsOfText = NumberLists(texts.count, texts.lazy.map { ($0, $0) })
    return pairs
  }

  /// Returns the captions that are answers for an image; with a range, those of them that are in it.
  public func captions(answering image: Int, in range: Range<Int>? = nil) -> [Int] {
    textsOfImage[image].flatMap { captionsOfText[$0, within: range] }
  }

  /// Returns the images that are answers for a caption; with a range, those of them that are in it.
  public func images(answering caption: Int, in range: Range<Int>? = nil) -> [Int] {
    imagesOfText[Int(textOfCaption[caption]), within: range]
  }

  /// Returns the number of each caption's cleaned text, from 0 and without gaps; equal texts have the same number.
  public static func texts(of captions: some Sequence<String>) -> [Int] { numbers(of: captions.lazy.map(cleaned)) }

  /// Returns the cleaned text of a caption, four bytes for each Unicode scalar.
  public static func cleaned(_ caption: String) -> [UInt8] {
    TextCleaner.clean(caption).map(\.value).littleEndianBytes
  }

  /// Returns the number of each element, from 0 and without gaps in the order in which they first occur.
  public static func numbers<Text: Hashable>(of texts: some Sequence<Text>) -> [Int] {
    var numbers: [Text: Int] = [:]
    return texts.map { text in
      if let number = numbers[text] { return number }
      numbers[text] = numbers.count
      return numbers.count - 1
    }
  }
}

/// Lists of numbers below 2³¹, end to end: four bytes for each list and each number.
private struct NumberLists: Sendable {
  /// Where each list begins in `numbers`, and the end of the last.
  private var starts: [Int32]
  private var numbers: [Int32]

  var count: Int { starts.count - 1 }

  /// Creates `count` lists from pairs of a list and a number that is appended to it.
  init(_ count: Int, _ pairs: some Collection<(Int, Int)>) {
    starts = [Int32](repeating: 0, count: count + 1)
    for (list, _) in pairs { starts[list + 1] += 1 }
    for list in 0..<count { starts[list + 1] += starts[list] }
    var next = starts
    numbers = [Int32](repeating: 0, count: pairs.count)
    for (list, number) in pairs {
      numbers[Int(next[list])] = Int32(number)
      next[list] += 1
    }
  }

  subscript(list: Int) -> [Int] { numbers[Int(starts[list])..<Int(starts[list + 1])].map { Int($0) } }

  /// Returns the numbers of a rising list that are in the range; nil: all.
  subscript(list: Int, within range: Range<Int>?) -> [Int] {
    guard let range else { return self[list] }
    let (start, end) = (Int(starts[list]), Int(starts[list + 1]))
    let first = place(of: range.lowerBound, start, end)
    return numbers[first..<place(of: range.upperBound, first, end)].map { Int($0) }
  }

  /// Returns the first place from `start` on with a number that is not below `bound`, or `end`.
  private func place(of bound: Int, _ start: Int, _ end: Int) -> Int {
    var (low, high) = (start, end)
    while low < high {
      let middle = (low + high) / 2
      if Int(numbers[middle]) < bound { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
