/// Returns the sum of what `bytes` says of all objects that are reachable from an object, each counted once. An object
/// of which it says nil counts as what it refers to.
func bytesHeld(by object: Any, counting bytes: (AnyObject) -> Int?) -> Int {
  var seen: Set<ObjectIdentifier> = []
  func walk(_ value: Any) -> Int {
    if type(of: value) is AnyClass {
      let object = value as AnyObject
      guard seen.insert(ObjectIdentifier(object)).inserted else { return 0 }
      if let bytes = bytes(object) { return bytes }
    }
    var mirror: Mirror? = Mirror(reflecting: value)
    var sum = 0
    while let level = mirror {
      for child in level.children { sum += walk(child.value) }
      mirror = level.superclassMirror
    }
    return sum
  }
  return walk(object)
}
