package price

// DocumentedMaxima are the embedded rows: names of models by tokens, by the snapshot's
// name of the provider.
func DocumentedMaxima() map[string]map[int64][]string { return documentedMaxima }
