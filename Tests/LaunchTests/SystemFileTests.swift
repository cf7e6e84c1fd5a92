import Testing

@testable import Launch

@Suite struct SystemFileTests {
  /// The system hands out /proc/self/maps a page at a time: this process has far more libraries than one page lists.
  @Test func filesLongerThanAPageAreReadWhole() throws {
    let maps = try #require(SystemFile.text("/proc/self/maps"))
    #expect(maps.utf8.count > 8192 && maps.hasSuffix("\n"))
    #expect(maps.contains("libmpi.so") && maps.contains("[stack]"))
    #expect(SystemFile.text("/proc/self/no-such-file") == nil)
  }
}
