package dns

import "selvage/product"

// Routes serves dns_records.
func (s *Server) Routes() []product.Route { return nil }
