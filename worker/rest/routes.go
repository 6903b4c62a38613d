package rest

import "net/http"

// routes is every operation that is served. The permission for each is METHOD:path of the request (DESIGN.md 6). What the
// reference's document has beside these answers 501.
func (w *Worker) routes() []route {
	const created, accepted = http.StatusCreated, http.StatusAccepted
	return []route{
		{name: "POST /hello", since: v5_1, handler: handle(w.hello)},

		{name: "POST /user", since: v5_1, status: created, handler: handle(w.createUser)},
		{name: "GET /user/{loginname}", since: v5_1, handler: handle(w.getUser)},
		{name: "PUT /user/{loginname}/role/{roleid}", since: v5_1, handler: handle(w.addUserRole)},
		{name: "DELETE /user/{loginname}/role/{roleid}", since: v5_1, handler: handle(w.removeUserRole)},
		{name: "GET /role", since: v5_1, handler: handle(w.listRoles)},
		{name: "POST /role", since: v5_1, status: created, handler: handle(w.createRole)},
		{name: "GET /role/{id}", since: v5_1, handler: handle(w.getRole)},
		{name: "PUT /role/{roleid}/permission/{permissionid}", since: v5_1, handler: handle(w.attachPermission)},
		{name: "DELETE /role/{roleid}/permission/{permissionid}", since: v5_1, handler: handle(w.detachPermission)},
		{name: "GET /permission", since: v5_1, handler: handle(w.listPermissions)},
		{name: "POST /permission", since: v5_1, status: created, handler: handle(w.createPermission)},
		{name: "GET /permission/{id}", since: v5_1, handler: handle(w.getPermission)},

		{name: "GET /cpi", since: v5_1, handler: handle(w.listPackages)},
		{name: "POST /cpi", since: v5_1, handler: handle(w.uploadPackage)},
		{name: "GET /cpi/status/{id}", since: v5_1, handler: handle(w.uploadStatus)},

		{name: "GET /virtualnode", since: v5_1, handler: handle(w.listVirtualNodes)},
		{name: "POST /virtualnode", since: v5_1, status: accepted, handler: handle(w.createVirtualNode)},
		{name: "GET /virtualnode/status/{requestid}", since: v5_1, handler: handle(w.operationStatus)},
		{name: "GET /virtualnode/{holdingidentityshorthash}", since: v5_1, handler: handle(w.getVirtualNode)},

		{name: "POST /hsm/soft/{tenantid}/{category}", since: v5_1, handler: handle(w.assignHSM)},
		{name: "GET /hsm/{tenantid}/{category}", since: v5_1, handler: handle(w.getHSM)},
		{name: "GET /key/{tenantid}", since: v5_1, handler: handle(w.listKeys)},
		{name: "POST /key/{tenantid}/alias/{alias}/category/{hsmcategory}/scheme/{scheme}", since: v5_1, handler: handle(w.generateKey)},
		{name: "GET /key/{tenantid}/schemes/{hsmcategory}", since: v5_1, handler: handle(w.listSchemes)},
		{name: "GET /key/{tenantid}/{keyid}", since: v5_1, handler: handle(w.getKey)},

		{name: "POST /certificate/{tenantid}/{keyid}", since: v5_1, handler: handle(w.requestCertificate)},
		{name: "GET /certificate/cluster/{usage}", since: v5_1, handler: handle(w.listClusterCertificates)},
		{name: "PUT /certificate/cluster/{usage}", since: v5_1, handler: handle(w.importClusterCertificate)},
		{name: "GET /certificate/cluster/{usage}/{alias}", since: v5_1, handler: handle(w.getClusterCertificate)},
		{name: "GET /certificate/vnode/{holdingidentityid}/{usage}", since: v5_1, handler: handle(w.listNodeCertificates)},
		{name: "PUT /certificate/vnode/{holdingidentityid}/{usage}", since: v5_1, handler: handle(w.importNodeCertificate)},
		{name: "GET /certificate/vnode/{holdingidentityid}/{usage}/{alias}", since: v5_1, handler: handle(w.getNodeCertificate)},

		{name: "PUT /network/setup/{holdingidentityshorthash}", since: v5_1, handler: handle(w.setUpNetwork)},
		{name: "POST /membership/{holdingidentityshorthash}", since: v5_1, handler: handle(w.register)},
		{name: "GET /membership/{holdingidentityshorthash}", since: v5_1, handler: handle(w.listRegistrations)},
		{name: "GET /membership/{holdingidentityshorthash}/{registrationrequestid}", since: v5_1, handler: handle(w.getRegistration)},
		{name: "GET /members/{holdingidentityshorthash}", since: v5_1, handler: handle(w.listMembers)},

		{name: "GET /flowclass/{holdingidentityshorthash}", since: v5_1, handler: handle(w.flowClasses)},
		{name: "GET /flow/{holdingidentityshorthash}", since: v5_1, handler: handle(w.listFlows)},
		{name: "POST /flow/{holdingidentityshorthash}", since: v5_1, status: accepted, handler: handle(w.startFlow)},
		{name: "GET /flow/{holdingidentityshorthash}/{clientrequestid}", since: v5_1, handler: handle(w.flowStatus)},
		{name: "GET /flow/{holdingidentityshorthash}/{clientrequestid}/result", since: v5_1, handler: handle(w.flowResult)},

		// Hawser's own: member files for static networks across clusters.
		{name: "GET /hawser/v1/members/{shortHash}", handler: handle(w.exportMember)},
		{name: "POST /hawser/v1/members/{shortHash}", handler: handle(w.importMember)},
	}
}
