package spec

import (
	"testing"

	"github.com/liop-project/liop/mesh/kad"
)

// weatherCID is base32 of 01 55 12 20 and SHA-256("liop:dataset:weather"), made by
// other means.
const weatherCID = "bafkreigixfsejfafzjtshiyswuw7chkdgs7wvco2kvy2jygbpzhpmyeiei"

type nameCase struct {
	Name string `json:"name"`
	CID  string `json:"cid"`
}

func nameCases() []nameCase {
	var out []nameCase
	for _, n := range []string{"weather", "acme/birdstrikes", "acme/*", "*"} {
		out = append(out, nameCase{n, kad.NameKey(n).String()})
	}
	return out
}

// The CIDs are constants here too: the vectors alone would follow any change.
func TestName(t *testing.T) {
	cases := load[nameCase](t, "name.json")
	for _, c := range cases {
		if got := kad.NameKey(c.Name).String(); got != c.CID {
			t.Errorf("%s: %s, want %s", c.Name, got, c.CID)
		}
	}
	if len(cases) == 0 || cases[0].CID != weatherCID {
		t.Errorf("weather is announced under %s, which no version before could find", cases[0].CID)
	}
}
