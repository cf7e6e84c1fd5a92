// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: Swift 6 concurrency, no leaked imports, no warning left standing.
let house: [SwiftSetting] =
  [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
  ] + processor

/// Outside Tensor and the C borders a pointer is a mistake, and the compiler says so.
let safe: [SwiftSetting] = house + [.strictMemorySafety()]

/// Arithmetic is optimized in debug builds too: a debug loop is fifty times slower. Square roots do not tell C's errno
/// of negative numbers, or each would be a call where the loop could have been of vectors.
let fast: [SwiftSetting] = house + [.unsafeFlags(["-O", "-Xcc", "-fno-math-errno"])]

/// Launch has more code than all others and few loops: compiled file by file it keeps every core busy, where optimizing
/// it as a whole runs on one.
let parallel: [SwiftSetting] = [
  .unsafeFlags(["-no-whole-module-optimization", "-enable-batch-mode"], .when(configuration: .release))
]

/// Generated code: the language and imports of ours, but its warnings are its generator's.
let generated: [SwiftSetting] = [
  .swiftLanguageMode(.v6), .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// The flag that reaches Swift's code generator. The building machine's own instructions by default; set
/// KINSHIP_MARCH=x86-64-v3 for a binary that runs on any processor with AVX2 and FMA. Baseline x86-64 has no FMA
/// and is a hundred times slower in the vector loops, so it is never the default.
var processor: [SwiftSetting] {
  #if arch(x86_64)
    let march = Context.environment["KINSHIP_MARCH"].flatMap { $0.isEmpty ? nil : $0 } ?? "native"
    return [.unsafeFlags(["-Xcc", "-march=\(march)", "-Xcc", "-mprefer-vector-width=512"])]
  #else
    return []
  #endif
}

let package = Package(
  name: "kinship",
  platforms: [.macOS(.v15)],
  products: [.executable(name: "kinship", targets: ["Launch"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    // None of its traits: files are written and read whole, and no message has a field mask.
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
    // A command of `swift package` that scripts/docs runs; no target depends on it, so builds do not compile it.
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.4.0"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0"),
  ],
  targets: [
    // C borders: installed libraries, and one small C target where longjmp must be caught.
    .systemLibrary(name: "CMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])]),
    .systemLibrary(name: "CMachine"),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .target(
      name: "CImage",
      linkerSettings: [.linkedLibrary("jpeg"), .linkedLibrary("png16"), .linkedLibrary("webp")]),

    // Arithmetic. The only Swift target that holds pointers.
    .target(
      name: "Tensor",
      dependencies: ["COpenBLAS", "COneDNN", "CMachine", .product(name: "RealModule", package: "swift-numerics")],
      path: "Sources/Model/Tensor", swiftSettings: fast),
    // What run files hold: sections, values and schedules, which options of Model and Dist declare beside themselves.
    .target(name: "Settings", path: "Sources/Model/Settings", swiftSettings: safe),
    // Layers, towers, losses, optimizer, text, images. Knows nothing of other processes.
    .target(
      name: "Model",
      dependencies: ["Settings", "Tensor", "CImage", "CZlib", .product(name: "RealModule", package: "swift-numerics")],
      path: "Sources/Model", exclude: ["Settings", "Tensor"],
      swiftSettings: safe + [.unsafeFlags(["-O"])]),
    // Processes, files, shards, checkpoints. Knows nothing of layers.
    .target(name: "Dist", dependencies: ["Settings", "Tensor", "CMPI", "CHDF5", "CCrypto"], swiftSettings: safe),
    // ONNX's schema as generated Swift, of its own so that the rules for our code do not apply to it.
    .target(
      name: "ONNXFormat", dependencies: [.product(name: "SwiftProtobuf", package: "swift-protobuf")],
      path: "Sources/Launch/ONNX", swiftSettings: generated),
    // Commands, run files, the trainer, evaluators. Model and Dist meet only here.
    .executableTarget(
      name: "Launch",
      dependencies: [
        "Model", "Dist", "Settings", "Tensor", "ONNXFormat", "CMachine", "Yams",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Launch", exclude: ["ONNX"], swiftSettings: safe + parallel),

    // A border of tests alone: process descriptors.
    .systemLibrary(name: "CProcess", path: "Tests/CProcess"),
    .target(
      name: "TestSupport",
      dependencies: [
        "Model", "Settings", "Tensor", "Dist", "CProcess",
        .product(name: "Subprocess", package: "swift-subprocess"),
      ],
      path: "Tests/TestSupport", swiftSettings: house),
    .executableTarget(
      name: "Probes", dependencies: ["Dist", "Model", "Settings", "Tensor"], path: "Tests/Probes", swiftSettings: safe),
    // What scripts inside tests wait with.
    .executableTarget(name: "Await", dependencies: ["CProcess"], path: "Tests/Await", swiftSettings: safe),
    // Readers of files from outside, for a fuzzer; built with the tests so that it stays true. The reader of logs is
    // Launch's, by links to its files.
    .executableTarget(
      name: "FuzzReaders", dependencies: ["Dist", "Tensor"], path: "Tests/FuzzReaders", swiftSettings: safe),
    .testTarget(name: "TensorTests", dependencies: ["Tensor", "TestSupport"], swiftSettings: house),
    .testTarget(
      name: "ModelTests", dependencies: ["Model", "Settings", "Tensor", "Dist", "TestSupport"], swiftSettings: house),
    .testTarget(
      name: "DistTests",
      dependencies: [
        "Dist", "Tensor", "TestSupport", "Probes", "Await", "CHDF5",
        .product(name: "Subprocess", package: "swift-subprocess"),
      ],
      swiftSettings: house),
    .testTarget(
      name: "LaunchTests",
      dependencies: [
        "Launch", "Model", "Dist", "Settings", "Tensor", "ONNXFormat", "TestSupport", "Await",
        .product(name: "Subprocess", package: "swift-subprocess"),
      ],
      swiftSettings: house),
  ]
)
