// Package secret keeps secrets secret: [Value] never prints itself, and
// [Keyring] seals what is stored (AES-256-GCM, key ids, additional data).
package secret
