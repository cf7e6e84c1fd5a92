/// Bicubic resize with antialias, bit for bit as PIL's `resize(…, BICUBIC)` on 8-bit RGB (Pillow 13).
///
/// Two passes with 8-bit values between them: horizontal then vertical, or the other way round where the height
/// shrinks by more than twice as many pixels as the width. The source may be a box of a picture (what a crop
/// followed by a resize gives: nothing outside the box is seen) and the result a window of the resized picture (what a
/// resize followed by a crop gives), without either intermediate picture. One resampler serves one thread; it keeps
/// its scratch and the tables of recent sizes.
public struct Resampler {
  private var tables = ResampleTables()
  private var passes = ResamplePasses()
  /// Rows between the passes, with room for those of whole pictures: boxes are large and small by chance.
  private var between: [UInt8] = []

  public init() {}

  /// Resizes `box` of `source` (all of it by default) to width × height pixels, in a new picture.
  public mutating func resize(_ source: RGBImage, box: CropBox? = nil, width: Int, height: Int) -> RGBImage {
    var result = RGBImage()
    let box = box ?? CropBox(left: 0, top: 0, width: source.width, height: source.height)
    resize(source, box: box, width: width, height: height, across: 0..<width, down: 0..<height, into: &result)
    return result
  }

  /// Resizes `box` of `source` to width × height pixels and puts the columns `across` and rows `down` of that picture
  /// into `result`. The box is one of the whole picture, also where `source` is shrunk.
  mutating func resize(
    _ source: RGBImage, box: CropBox, width: Int, height: Int, across: Range<Int>, down: Range<Int>,
    into result: inout RGBImage
  ) {
    precondition(box.fits(width: source.whole.width, height: source.whole.height), "\(box) in \(source.whole)")
    let shrink = source.shrink
    let (horizontal, vertical) = tables.pair(
      ResampleTable.Key(
        input: box.width, offset: box.left % shrink, shrink: shrink, output: width, outputs: across),
      ResampleTable.Key(
        input: box.height, offset: box.top % shrink, shrink: shrink, output: height, outputs: down))
    let (columns, rows) = (horizontal.inputs, vertical.inputs)
    let (left, top) = (box.left / shrink + columns.lowerBound, box.top / shrink + rows.lowerBound)
    let corner = (top * source.width + left) * 3
    let whole = ResamplePasses.Layout(start: corner, rowBytes: source.width * 3)
    result.reshape(width: across.count, height: down.count)
    passes.reserve(sourceWidth: source.width, width: across.count)
    if height < box.height && box.height - height > 2 * (box.width - width) {
      between.grow(to: down.count * source.width * 3)
      passes.vertical(source.storage, whole, vertical, of: tables, count: columns.count * 3, into: &between)
      let layout = ResamplePasses.Layout(start: 0, rowBytes: columns.count * 3)
      passes.horizontal(between, layout, horizontal, of: tables, rows: down.count, into: &result.storage)
    } else {
      between.grow(to: source.height * across.count * 3)
      passes.horizontal(source.storage, whole, horizontal, of: tables, rows: rows.count, into: &between)
      let layout = ResamplePasses.Layout(start: 0, rowBytes: across.count * 3)
      passes.vertical(between, layout, vertical, of: tables, count: across.count * 3, into: &result.storage)
    }
  }
}
