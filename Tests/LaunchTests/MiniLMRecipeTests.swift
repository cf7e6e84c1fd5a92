import Foundation
import Model
import Testing

@testable import Launch

/// The run files of `scripts/teach-from-minilm`: one student with and without the term of captions.
@Suite struct MiniLMRecipeTests {
  private static func recipe(_ name: String) throws -> RunConfig {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "scripts/recipes/minilm", directoryHint: .isDirectory)
    return try RunConfig.load(folder.appending(path: "\(name).yaml").path)
  }

  @Test func theyDifferByTheTermOfCaptionsAlone() throws {
    let (captions, images) = (try Self.recipe("captions"), try Self.recipe("images"))
    for run in [captions, images] {
      #expect(run.teacher?.isImported == true && run.usesTeacher && run.data.views == 4)
      #expect(run.image.colorJitter.probability == 0 && run.image.grayscale == 0)
      // Sides of different spaces have no scale.
      #expect(run.objective.refusals(of: (images: true, captions: true, scale: false)).isEmpty)
      #expect(try run.model.resolved() == captions.model.resolved() && run.steps == captions.steps)
    }
    let ofImages = (images: true, captions: false, scale: false)
    #expect(captions.objective.refusals(of: ofImages).map(\.key) == ["intra"])
    #expect(images.objective.refusals(of: ofImages).isEmpty)
  }
}
