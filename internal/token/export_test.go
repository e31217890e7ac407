package token

// Floors is the number of version floors that a remembers.
func (a *Authority) Floors() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.floors)
}
