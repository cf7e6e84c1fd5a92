public import Tensor

/// The embeddings of a dataset in the files of another program, each found by the key of its sample. The files are
/// parts of one whole: their order counts only for a sample's captions. Only the places of rows are held in memory.
public struct EmbeddingSet: Sendable {
  /// The file and the row in which an embedding lies.
  private struct Place: Equatable {
    let file: Int32
    let row: Int32
  }

  public let contents: CacheDescription.Import
  public let views: Int
  public let hasBoxes: Bool
  /// e^logit_scale; nil if the files do not give it.
  public let logitScale: Double?
  /// The rows whose keys the dataset lacks: their number, and the first three keys.
  public let extra: (count: Int, keys: [String])
  private let dataset: Dataset
  private let files: [ForeignEmbeddings]
  /// The places of all samples' embeddings, or of none.
  private let images: [Place?]
  /// The places of all captions' embeddings, or of none.
  private let texts: [Place?]

  /// Finds the embeddings of a dataset. Throws an `EmbeddingFileError` if one is missing or there twice, or if the
  /// files do not fit each other.
  public init(_ files: [ForeignEmbeddings], of dataset: Dataset) throws {
    func agreed<Fact: Equatable>(_ what: String, _ fact: (ForeignEmbeddings) -> Fact?) throws -> Fact? {
      var first: (fact: Fact, path: String)?
      for file in files {
        guard let found = fact(file) else { continue }
        if let first, first.fact != found {
          throw EmbeddingFileError(path: file.path, reason: "\(what) \(found), and \(first.fact) in \(first.path)")
        }
        first = first ?? (found, file.path)
      }
      return first?.fact
    }
    let width = Modality(
      image: try agreed("the width of image is") { $0.image?.shape.last } ?? 0,
      text: try agreed("the width of text is") { $0.text?.shape.last } ?? 0)
    views = try agreed("the number of views is") { $0.views } ?? 1
    let crops = try agreed("image comes") { file in
      file.image.map { _ in file.boxes == nil ? "without boxes" : "with boxes" }
    }
    hasBoxes = crops == "with boxes"
    logitScale = try agreed("logit_scale is") { $0.logitScale }
    let list = files.map(\.path).joined(separator: ", ")
    guard logitScale == nil || min(width.image, width.text) == 0 || width.image == width.text else {
      throw EmbeddingFileError(
        path: list,
        reason: "image is \(width.image) wide and text \(width.text), so they cannot be compared, and logit_scale says "
          + "that they can; leave it out if images and captions were embedded by models apart")
    }
    contents = CacheDescription.Import(image: width.image, text: width.text, isScaled: logitScale != nil, boxes: nil)
    var finder = Finder(files, dataset)
    for (number, file) in files.enumerated() {
      if file.image != nil { try finder.place(imagesOf: file, Int32(number)) }
      if file.text != nil { try finder.place(textsOf: file, Int32(number)) }
    }
    try finder.requireAll(images: width.image > 0, texts: width.text > 0, in: list)
    (images, texts, extra) = (finder.images, finder.texts, finder.extra)
    (self.files, self.dataset) = (files, dataset)
  }

  /// One number for images and one for captions.
  private struct Modality { let image, text: Int }

  /// Fills the tables of places.
  private struct Finder {
    var images: [Place?]
    var texts: [Place?]
    var extra: (count: Int, keys: [String]) = (0, [])
    private let files: [ForeignEmbeddings]
    private let dataset: Dataset
    private let numbers: [UInt64: Int32]

    init(_ files: [ForeignEmbeddings], _ dataset: Dataset) {
      (self.files, self.dataset) = (files, dataset)
      images = Array(repeating: nil, count: dataset.count)
      texts = Array(repeating: nil, count: dataset.index.totals.captions)
      numbers = Dictionary((0..<dataset.count).map { (dataset.sampleID($0), Int32($0)) }) { first, _ in first }
    }

    /// Returns the sample with this key; nil if there is none, which counts as extra.
    private mutating func sample(_ key: String) -> Int? {
      let found = numbers[Dataset.sampleID(dataset: dataset.name, key: key)].map { Int($0) }
      if let found, dataset.key(found) == key { return found }
      extra.count += 1
      if extra.keys.count < 3 { extra.keys.append(key) }
      return nil
    }

    mutating func place(imagesOf file: ForeignEmbeddings, _ number: Int32) throws {
      let keys = try file.keys(ofTexts: false)
      for row in 0..<keys.count {
        guard let sample = sample(keys[row]) else { continue }
        if let other = images[sample] {
          let before = "row \(other.row) in \(files[Int(other.file)].path)"
          throw EmbeddingFileError(
            path: file.path, reason: "the key \"\(keys[row])\" in row \(row) is also that of \(before)")
        }
        images[sample] = Place(file: number, row: Int32(row))
      }
    }

    mutating func place(textsOf file: ForeignEmbeddings, _ number: Int32) throws {
      let keys = try file.keys(ofTexts: true)
      for row in 0..<keys.count {
        guard let sample = sample(keys[row]) else { continue }
        let (first, count) = (dataset.firstCaption(sample), dataset.captionCount(sample))
        guard let caption = (first..<first + count).first(where: { texts[$0] == nil }) else {
          throw EmbeddingFileError(
            path: file.path,
            reason: "row \(row) of text is one too many for the key \"\(keys[row])\": the dataset has \(count) of its "
              + "captions, and all have embeddings")
        }
        texts[caption] = Place(file: number, row: Int32(row))
      }
    }

    /// Throws if images or captions lack embeddings that they are to have, and shows the keys that the dataset lacks:
    /// often they are those of the missing ones in another form, such as with the ending of the image's file.
    func requireAll(images needsImages: Bool, texts needsTexts: Bool, in list: String) throws {
      func require(_ what: String, _ places: [Place?], _ key: (Int) -> String) throws {
        let missing = places.indices.filter { places[$0] == nil }
        guard !missing.isEmpty else { return }
        let keys = Self.list(missing.prefix(3).map(key))
        let others =
          extra.count > 0 ? "; rows with keys that it lacks: \(extra.count), first \(Self.list(extra.keys))" : ""
        throw EmbeddingFileError(
          path: list,
          reason: "\(missing.count) of the \(places.count) \(what) of the dataset \(dataset.name) have no embedding; "
            + "the first are those of \(keys)\(others)")
      }
      if needsImages { try require("images", images) { dataset.key($0) } }
      if needsTexts { try require("captions", texts) { dataset.key(dataset.sample(ofCaption: $0)) } }
    }

    private static func list(_ keys: [String]) -> String { keys.map { "\"\($0)\"" }.joined(separator: ", ") }
  }
}

// MARK: Reading

extension EmbeddingSet {
  /// The lengths of the embeddings that were read.
  public struct Lengths: Sendable {
    /// The number of embeddings, and of those whose length is not 1.
    public private(set) var count = 0
    public private(set) var others = 0
    public private(set) var least = Double.infinity
    public private(set) var largest = 0.0

    public init() {}

    fileprivate mutating func add(_ length: Double) {
      count += 1
      // Rows that were stored in 16 bits differ from 1 by less.
      if abs(length - 1) > 1e-2 { others += 1 }
      (least, largest) = (min(least, length), max(largest, length))
    }
  }

  /// Returns the unit embeddings [n · views, d] of consecutive samples. Throws for one that is not finite, or near 0.
  public func images(_ samples: Range<Int>, _ lengths: inout Lengths) throws -> Tensor<Float> {
    let rows = try read(images[samples], height: views, width: contents.image) { $0.image }
    try normalize(rows, images[samples], height: views, &lengths) { dataset.key(samples.lowerBound + $0) }
    return rows
  }

  /// Returns the unit embeddings [m, e] of consecutive captions, likewise.
  public func texts(_ captions: Range<Int>, _ lengths: inout Lengths) throws -> Tensor<Float> {
    let rows = try read(texts[captions], height: 1, width: contents.text) { $0.text }
    try normalize(rows, texts[captions], height: 1, &lengths) {
      dataset.key(dataset.sample(ofCaption: captions.lowerBound + $0))
    }
    return rows
  }

  /// Returns the boxes [n · views, 4] of the crops of consecutive samples. Throws for one beyond its image.
  public func boxes(_ samples: Range<Int>) throws -> Tensor<Float> {
    let rows = try read(images[samples], height: views, width: 4) { $0.boxes }
    for row in 0..<rows.rows {
      let box = rows.rows(row..<row + 1).array
      guard 0 <= box[0], box[0] < box[2], box[2] <= 1, 0 <= box[1], box[1] < box[3], box[3] <= 1 else {
        throw EmbeddingFileError(
          path: path(images[samples.lowerBound + row / views]),
          reason: "the box \(box) of the key \"\(dataset.key(samples.lowerBound + row / views))\" is not within its "
            + "image; expected left < right and top < bottom, as fractions of its sides from 0 to 1")
      }
    }
    return rows
  }

  /// Returns the SHA-256 of all boxes, which names the crops; nil without boxes.
  public func boxesSHA256() throws -> String? {
    guard hasBoxes else { return nil }
    var hasher = SHA256()
    for first in stride(from: 0, to: dataset.count, by: 1024) {
      let numbers = try boxes(first..<min(first + 1024, dataset.count)).array
      hasher.update(numbers.map(\.bitPattern).littleEndianBytes)
    }
    return hasher.finalize().hexadecimal
  }

  private func path(_ place: Place?) -> String { place.map { files[Int($0.file)].path } ?? "" }

  /// Reads rows at these places, `height` of them at each.
  private func read(
    _ places: ArraySlice<Place?>, height: Int, width: Int, of array: (ForeignEmbeddings) -> StoredTensor?
  ) throws -> Tensor<Float> {
    let rows = Tensor<Float>(Shape(places.count * height, width))
    var at = places.startIndex
    while at < places.endIndex {
      guard let first = places[at], let stored = array(files[Int(first.file)]) else {
        preconditionFailure("an embedding that was not found")
      }
      // Rows that follow one another in a file are read together.
      var end = at + 1
      while end < places.endIndex, places[end] == Place(file: first.file, row: first.row + Int32(end - at)) { end += 1 }
      let target = (at - places.startIndex) * height..<(end - places.startIndex) * height
      let start = Int(first.row) * height * width
      try stored.read(start..<start + target.count * width, into: rows.rows(target))
      at = end
    }
    return rows
  }

  /// Divides rows by their lengths.
  private func normalize(
    _ rows: Tensor<Float>, _ places: ArraySlice<Place?>, height: Int, _ lengths: inout Lengths,
    key: (Int) -> String
  ) throws {
    for row in 0..<rows.rows {
      let length = sumOfSquares(rows.rows(row..<row + 1)).squareRoot()
      guard length.isFinite, length > 1e-6 else {
        let problem = length.isFinite ? "has the length \(length), which has no direction" : "is not finite"
        let view = height > 1 ? ", view \(row % height)," : ""
        throw EmbeddingFileError(
          path: path(places[places.startIndex + row / height]),
          reason: "the embedding of the key \"\(key(row / height))\"\(view) \(problem)")
      }
      lengths.add(length)
    }
    normalizeRows(rows, into: rows, reciprocal: Tensor<Float>(Shape(rows.rows)))
  }
}
