// Package fill lets identical requests share one answer while it arrives.
//
// The first of them starts a fill, which asks upstream on a goroutine and a
// context of its own and appends what comes to a chain of blocks that never
// change. Everybody who wants the answer, the first included, walks that chain
// at their own pace.
package fill
