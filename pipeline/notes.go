package pipeline

import "fmt"

// metaNotes remarks on meta-parameters that are in order and yet not what they seem to be.
func (g *Graph) metaNotes() {
	type first struct {
		v     *Vertex
		count int
	}
	semas := map[string]first{}
	for _, v := range g.Vertices {
		if v.Meta == &defaultMeta {
			continue
		}
		for _, text := range v.Meta.Sema {
			id, count, _ := parseSema(text) // Validate has seen it
			switch before, ok := semas[id]; {
			case !ok:
				semas[id] = first{v, count}
			case before.count != count:
				g.Notes = append(g.Notes, Note{v.Pos, fmt.Sprintf(
					"%s counts the semaphore %s to %d, and %s to %d: the larger number counts", brief(v.String()), id, count, brief(before.v.String()), before.count)})
			}
		}
	}
}
