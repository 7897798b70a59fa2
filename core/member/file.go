package member

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// FileName is the file in an agent's home directory with its token.
const FileName = "member.jwt"

// maxFile bounds a file with a token: the token, and white space around it.
const maxFile = MaxToken + 64

// ReadFile reads the token in the file at path, without the white space around
// it. It does not judge the token. A missing file is an error that matches
// [io/fs.ErrNotExist].
func ReadFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s: larger than %d bytes, so it is no membership token", path, maxFile)
	}
	return strings.TrimSpace(string(b)), nil
}
