package adminapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorised reports whether the call carries the management token, in exactly
// one Authorization header. Both sides are hashed first, so that the time it
// takes tells neither content nor length.
func (a *API) authorised(r *http.Request) bool {
	values := r.Header["Authorization"]
	if !a.authorises || len(values) != 1 {
		return false
	}
	scheme, credential, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimLeft(credential, " ")))
	return subtle.ConstantTimeCompare(sum[:], a.tokenSum[:]) == 1
}
