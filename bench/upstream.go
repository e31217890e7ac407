package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// upstreamRole makes a process the canned provider.
const upstreamRole = "upstream"

// upstreamInfo is what the provider tells its parent when it listens.
type upstreamInfo struct {
	Plain       string // address of HTTP/1.1 without TLS
	TLS         string // address of HTTP/2 over TLS
	Certificate string // PEM, its own authority
}

// serveUpstream is the provider's process. It ends with its standard input, and
// so with its parent.
func serveUpstream(stdin io.Reader, stdout io.Writer) error {
	plain, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	certificate, authority, err := selfSigned()
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- servePlain(plain) }()
	go func() { failed <- serveTLS(secure, certificate) }()
	info := upstreamInfo{Plain: plain.Addr().String(), TLS: secure.Addr().String(), Certificate: authority}
	if err := json.NewEncoder(stdout).Encode(info); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(ended)
	}()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return nil
	}
}

// servePlain is HTTP/1.1 by hand: the provider shares a core with the load
// generator and must not be what limits a window.
func servePlain(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if err := servePlainConn(conn); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				log.Printf("upstream: %v", err)
			}
		}()
	}
}

var (
	plainAnswer  = []byte(http1Head("200 OK", "application/json", len(answerBody)) + answerBody)
	plainStream  = []byte(http1Head("200 OK", "text/event-stream; charset=utf-8", -1))
	plainFrame   = []byte(chunk(frame))
	plainEnd     = []byte(chunk(lastFrame) + "0\r\n\r\n")
	plainRefusal = []byte(http1Head("401 Unauthorized", "application/json", 2) + "{}")

	wholeMark         = []byte(whole.mark())
	authorizationLine = []byte("authorization: bearer " + providerKey)
)

// servePlainConn answers requests on one connection; it returns why it ended.
func servePlainConn(conn net.Conn) error {
	c := newClient(conn)
	for {
		head, body, err := c.readRequest()
		if err != nil {
			return err
		}
		answer := plainAnswer
		switch {
		case !bytes.HasPrefix(head, []byte("POST "+chatPath+" ")):
			return fmt.Errorf("unexpected request %q", bytes.SplitN(head, []byte("\r\n"), 2)[0])
		case !hasLine(head, authorizationLine):
			answer = plainRefusal
		case !bytes.Contains(body, wholeMark):
			if err := writePlainStream(conn, body); err != nil {
				return err
			}
			continue
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

// hasLine finds a header line, given in lower case but for its value.
func hasLine(head, line []byte) bool {
	for rest := head; len(rest) > 0; {
		one, after, _ := bytes.Cut(rest, []byte("\r\n"))
		if len(one) == len(line) && bytes.EqualFold(one, line) {
			return true
		}
		rest = after
	}
	return false
}

// writePlainStream writes the head and every event by itself, as providers do.
func writePlainStream(conn net.Conn, question []byte) error {
	frames, pause := streamFrames, time.Duration(0)
	switch {
	case bytes.Contains(question, []byte(paced.mark())):
		pause = pace
	case bytes.Contains(question, []byte(short.mark())):
		// The pause keeps the stream's end out of the time that its beginning takes.
		frames, pause = 1, 200*time.Microsecond
	}
	if _, err := conn.Write(plainStream); err != nil {
		return err
	}
	for range frames {
		if _, err := conn.Write(plainFrame); err != nil {
			return err
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	_, err := conn.Write(plainEnd)
	return err
}

// serveTLS is HTTP/2 by net/http; it refuses HTTP/1.1, so that no variant is
// measured on another protocol than it says.
func serveTLS(l net.Listener, certificate tls.Certificate) error {
	canned := make(http.Header)
	for _, h := range answerHeaders {
		canned[h.name] = []string{h.value}
	}
	canned["Date"] = []string{answerDate}
	canned["Content-Type"] = []string{"application/json"}
	canned["Content-Length"] = []string{strconv.Itoa(len(answerBody))}
	body := []byte(answerBody)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			switch {
			case r.ProtoMajor != 2:
				http.Error(w, "expected HTTP/2", http.StatusHTTPVersionNotSupported)
			case r.Method != http.MethodPost || r.URL.Path != chatPath:
				http.NotFound(w, r)
			case r.Header.Get("Authorization") != "Bearer "+providerKey:
				http.Error(w, "wrong key", http.StatusUnauthorized)
			default:
				h := w.Header()
				for name, values := range canned {
					h[name] = values
				}
				_, _ = w.Write(body)
			}
		}),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	return server.ServeTLS(l, "", "")
}

// selfSigned makes a certificate for loopback that is its own authority.
func selfSigned() (tls.Certificate, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	var text strings.Builder
	if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return tls.Certificate{}, "", err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text.String(), nil
}
