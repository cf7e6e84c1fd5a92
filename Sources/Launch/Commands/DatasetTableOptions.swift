import ArgumentParser

/// The options of `kinship dataset import` for tables.
struct DatasetTableOptions: ParsableArguments {
  @Option(help: "The column of the images' paths.") var imageColumn = "filepath"

  @Option(
    help: ArgumentHelp(
      "The columns of captions, separated by commas. Default: title, which may be absent where there are labels.",
      valueName: "names"))
  var captionColumns: String?

  @Option(
    help: ArgumentHelp(
      "A column of labels: whole numbers as they are, or names, numbered in the order of their bytes.",
      valueName: "name"))
  var labelColumn: String?

  @Option(
    help: ArgumentHelp(
      "A column of unique keys. Default: the path as the table has it, without its extension. U+FE0F is left out.",
      valueName: "name"))
  var keyColumn: String?

  @Option(
    help: ArgumentHelp(
      "tab, comma, semicolon, or one ASCII character. Default: inferred from the name (.csv: comma, else tab) or the "
        + "header.", valueName: "separator"))
  var separator: Separator?

  @Flag(help: "Treats double quotes in tables as plain characters.") var noQuotes = false

  /// The character between two fields.
  struct Separator: ExpressibleByArgument {
    let byte: UInt8

    init?(argument: String) {
      let names = ["tab": "\t", "comma": ",", "semicolon": ";"]
      let text = Array((names[argument] ?? argument).utf8)
      guard text.count == 1, text[0] < 0x80, !"\"\r\n".utf8.contains(text[0]) else { return nil }
      byte = text[0]
    }
  }

  var columns: TableColumns {
    TableColumns(
      image: imageColumn, captions: captionColumns.map(DatasetSourceOptions.names), label: labelColumn, key: keyColumn)
  }
}
