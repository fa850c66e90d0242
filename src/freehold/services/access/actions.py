"""Every operation of the platform, in the groups that roles are made of.

The table is written by hand, from botocore's models: what an operation is for, no model says. One
that stands nowhere here is `ungrouped`, and nobody but an admin may call it. A test compares the
table with the models and with our own operations, so that a new one is given its group.

- read: configuration, state, logs, contents; never a secret
- write: make, change, delete what agents are made of
- operate: endpoints, sessions, commands and shells in them
- invoke: call an agent or a tool
- secrets: get a credential, or what opens one
- administer: people, keys, who else is let in, what costs money
- oversee: the audit, and who has access
- ingest: send telemetry
- self: about the caller's own account
- inside: what code in a sandbox may call (no role has it)
- gateway: what a gateway may call of this platform, as its target (no role has it)
- bearer: what a token may call that a resource's own authorizer accepted (no role has it)
- anonymous: what nobody need sign in for, where the resource itself says so (no role has it)
"""

from collections.abc import Mapping
from types import MappingProxyType

UNGROUPED = "ungrouped"

_TABLE: tuple[tuple[str, str, str], ...] = (
    ("bedrock-agentcore", "read", """
        GetABTest GetAgentInsight GetBatchEvaluation GetBrowserSession
        GetCodeInterpreterSession GetDatasetGeneration GetEvent GetMemoryRecord
        GetPaymentInstrument GetPaymentInstrumentBalance GetPaymentSession
        GetRecommendation ListABTests ListActors ListAgentInsights ListBatchEvaluations
        ListBrowserSessions ListCodeInterpreterSessions ListDatasetGenerations ListEvents
        ListMemoryExtractionJobs ListMemoryRecords ListPaymentInstruments
        ListPaymentSessions ListRecommendations ListSessions RetrieveMemoryRecords
        SearchRegistryRecords
    """),
    ("bedrock-agentcore", "write", """
        BatchCreateMemoryRecords BatchDeleteMemoryRecords BatchUpdateMemoryRecords
        CreateABTest CreateEvent DeleteABTest DeleteBatchEvaluation
        DeleteDatasetGeneration DeleteEvent DeleteMemoryRecord DeleteRecommendation
        Evaluate IngestData StartBatchEvaluation StartDatasetGeneration
        StartMemoryExtractionJob StartRecommendation UpdateABTest UpdateAgentInsight
    """),
    ("bedrock-agentcore", "operate", """
        DeleteCapacityProviderSession InvokeAgentRuntimeCommand SaveBrowserSessionProfile
        StartBrowserSession StartCodeInterpreterSession StopBatchEvaluation
        StopBrowserSession StopCodeInterpreterSession StopRuntimeSession
        UpdateBrowserStream
    """),
    ("bedrock-agentcore", "invoke", """
        GetAgentCard InvokeAgentRuntime InvokeBrowser InvokeCodeInterpreter InvokeHarness
        InvokeWebSearch
    """),
    ("bedrock-agentcore", "secrets", """
        CompleteResourceTokenAuth GetResourceApiKey GetResourceOauth2Token
        GetResourcePaymentToken GetWorkloadAccessToken GetWorkloadAccessTokenForJWT
        GetWorkloadAccessTokenForUserId
    """),
    ("bedrock-agentcore", "administer", """
        CreatePaymentInstrument CreatePaymentSession DeletePaymentInstrument
        DeletePaymentSession ProcessPayment
    """),
    ("bedrock-agentcore-control", "read", """
        GetAgentInsightStore GetAgentRuntime GetAgentRuntimeEndpoint
        GetApiKeyCredentialProvider GetBrowser GetBrowserProfile GetCapacityProvider
        GetCodeInterpreter GetConfigurationBundle GetConfigurationBundleVersion
        GetConsentPortal GetDataset GetEvaluator GetGateway GetGatewayRateLimit
        GetGatewayRule GetGatewayTarget GetHarness GetHarnessEndpoint GetMemory
        GetOauth2CredentialProvider GetOnlineEvaluationConfig GetPaymentConnector
        GetPaymentCredentialProvider GetPaymentManager GetPolicy GetPolicyEngine
        GetPolicyEngineSummary GetPolicyGeneration GetPolicyGenerationSummary
        GetPolicySummary GetRegistry GetRegistryRecord GetResourcePolicy GetTokenVault
        GetWorkloadIdentity ListAgentInsightStores ListAgentRuntimeEndpoints
        ListAgentRuntimeVersions ListAgentRuntimeVersionsByCapacityProvider
        ListAgentRuntimes ListApiKeyCredentialProviders ListBrowserProfiles ListBrowsers
        ListCapacityProviders ListCodeInterpreters ListConfigurationBundleVersions
        ListConfigurationBundles ListConsentPortals ListDatasetExamples
        ListDatasetVersions ListDatasets ListEvaluators ListGatewayRateLimits
        ListGatewayRules ListGatewayTargets ListGateways ListHarnessEndpoints
        ListHarnessVersions ListHarnesses ListMemories ListOauth2CredentialProviders
        ListOnlineEvaluationConfigs ListPaymentConnectors ListPaymentCredentialProviders
        ListPaymentManagers ListPolicies ListPolicyEngineSummaries ListPolicyEngines
        ListPolicyGenerationAssets ListPolicyGenerationSummaries ListPolicyGenerations
        ListPolicySummaries ListRegistries ListRegistryRecords ListTagsForResource
        ListWorkloadIdentities
    """),
    ("bedrock-agentcore-control", "write", """
        AddDatasetExamples BatchPutGatewayRateLimits CreateAgentRuntime
        CreateApiKeyCredentialProvider CreateBrowser CreateBrowserProfile
        CreateCodeInterpreter CreateConfigurationBundle CreateDataset CreateDatasetVersion
        CreateEvaluator CreateGateway CreateGatewayRateLimit CreateGatewayRule
        CreateGatewayTarget CreateHarness CreateMemory CreateOauth2CredentialProvider
        CreateOnlineEvaluationConfig CreateRegistry
        CreateRegistryRecord CreateWorkloadIdentity DeleteAgentRuntime
        DeleteApiKeyCredentialProvider DeleteBrowser DeleteBrowserProfile
        DeleteCodeInterpreter DeleteConfigurationBundle DeleteDataset
        DeleteDatasetExamples DeleteEvaluator DeleteGateway DeleteGatewayRateLimit
        DeleteGatewayRule DeleteGatewayTarget DeleteHarness DeleteMemory
        DeleteOauth2CredentialProvider DeleteOnlineEvaluationConfig
        DeleteRegistry DeleteRegistryRecord DeleteWorkloadIdentity
        SubmitRegistryRecordForApproval TagResource UntagResource
        UpdateAgentInsightStore UpdateAgentRuntime UpdateApiKeyCredentialProvider
        UpdateConfigurationBundle UpdateDataset UpdateDatasetExamples UpdateEvaluator
        UpdateGateway UpdateGatewayRateLimit UpdateGatewayRule UpdateGatewayTarget
        UpdateHarness UpdateMemory UpdateOauth2CredentialProvider
        UpdateOnlineEvaluationConfig UpdateRegistry
        UpdateRegistryRecord UpdateWorkloadIdentity
    """),
    ("bedrock-agentcore-control", "operate", """
        CreateAgentRuntimeEndpoint CreateHarnessEndpoint DeleteAgentRuntimeEndpoint
        DeleteHarnessEndpoint SynchronizeGatewayTargets UpdateAgentRuntimeEndpoint
        UpdateHarnessEndpoint
    """),
    ("bedrock-agentcore-control", "administer", """
        CreateCapacityProvider CreateConsentPortal CreatePaymentConnector
        CreatePaymentCredentialProvider CreatePaymentManager DeleteCapacityProvider
        DeleteConsentPortal DeletePaymentConnector DeletePaymentCredentialProvider
        DeletePaymentManager DeleteResourcePolicy PutResourcePolicy
        ResetTokenVaultKeyMaterial RotatePaymentConnectorCredentials SetTokenVaultCMK
        UpdateCapacityProvider UpdateConsentPortal UpdatePaymentConnector
        UpdatePaymentCredentialProvider UpdatePaymentManager UpdateRegistryRecordStatus
    """),
    # What binds agents: not for who writes them.
    ("bedrock-agentcore-control", "administer", """
        CreatePolicy CreatePolicyEngine DeletePolicy DeletePolicyEngine StartPolicyGeneration
        UpdatePolicy UpdatePolicyEngine
    """),
    ("agent-registry", "read", """
        BatchGetDiscoverableRegistryRecord ListDiscoverableRegistryRecords
        SearchDiscoverableRegistryRecords
    """),
    ("agent-registry-control", "read", """
        GetRegistry GetRegistryRecord ListRegistries ListRegistryRecords
        ListTagsForResource
    """),
    ("agent-registry-control", "write", """
        CreateRegistry CreateRegistryRecord DeleteRegistry DeleteRegistryRecord
        SubmitRegistryRecordForApproval TagResource UntagResource UpdateRegistry
        UpdateRegistryRecord
    """),
    ("agent-registry-control", "administer", """
        UpdateRegistryRecordStatus
    """),
    # What no model has: WebSockets.
    ("bedrock-agentcore", "invoke", "InvokeAgentRuntimeWithWebSocketStream"),
    # To say for which user one calls (runtimeUserId); AWS's name of that permission.
    ("bedrock-agentcore", "invoke", "InvokeAgentRuntimeForUser"),
    ("bedrock-agentcore", "operate", "InvokeAgentRuntimeCommandShell"),
    # All that goes through a gateway; AWS's name of that permission.
    ("bedrock-agentcore", "invoke", "InvokeGateway"),
    ("bedrock-agentcore", "anonymous", "InvokeGateway"),
    ("bedrock-agentcore", "gateway", "GetAgentCard InvokeAgentRuntime InvokeGateway"),
    # Who started a session may end it.
    ("bedrock-agentcore", "invoke", """
        StopRuntimeSession StartBrowserSession StopBrowserSession StartCodeInterpreterSession
        StopCodeInterpreterSession
    """),
    ("bedrock-agentcore", "inside", """
        InvokeAgentRuntime GetAgentCard GetWorkloadAccessToken GetWorkloadAccessTokenForJWT
        GetWorkloadAccessTokenForUserId GetResourceApiKey GetResourceOauth2Token InvokeGateway
    """),
    # An agent remembers: what was said and learned in its tenant's memories. It makes and deletes
    # no memory.
    ("bedrock-agentcore", "inside", """
        BatchCreateMemoryRecords BatchDeleteMemoryRecords BatchUpdateMemoryRecords CreateEvent
        DeleteEvent DeleteMemoryRecord GetEvent GetMemoryRecord ListActors ListEvents
        ListMemoryRecords ListSessions RetrieveMemoryRecords
    """),
    ("bedrock-agentcore-control", "inside", "GetMemory ListMemories"),
    # Such an agent takes tokens alone, its shells and commands too, as in AWS. A resource policy
    # can keep users out of them.
    ("bedrock-agentcore", "bearer", """
        InvokeAgentRuntime InvokeAgentRuntimeWithWebSocketStream GetAgentCard StopRuntimeSession
        InvokeAgentRuntimeCommand InvokeAgentRuntimeCommandShell InvokeGateway
    """),
    ("s3", "read", """
        GetBucketLocation GetObject HeadBucket HeadObject ListBuckets ListMultipartUploads
        ListObjects ListObjectsV2 ListParts
    """),
    ("s3", "write", """
        AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload
        DeleteBucket DeleteObject DeleteObjects PutObject UploadPart UploadPartCopy
    """),
    # Spans and log records, by CloudWatch Logs' protocol.
    ("logs", "read", """
        DescribeLogGroups DescribeLogStreams FilterLogEvents GetLogEvents GetQueryResults StartQuery
        StopQuery
    """),
    ("doorway", "inside", "ExportTelemetry GetCredentials"),
    ("models", "inside", """
        ChatCompletions Converse ConverseStream CountTokens Embeddings FimCompletions
        GenerateContent GetModel InvokeModel InvokeModelStream ListModels Messages Responses
        StreamGenerateContent
    """),
    ("freehold", "read", "ListSessions ReadLogs ReportCosts"),
    ("freehold", "read", "ListOauthGrants"),
    ("freehold", "operate", "RevokeOauthGrant"),
    ("freehold", "administer", """
        AddPerson ChangeAccessKey ChangePerson ChangeTenant CreateAccessKey CreateTenant
        DeleteAccessKey RemovePerson ResetPassword SetPersonRoles
    """),
    ("freehold", "read", "GetClientKeys GetVaultRotation GetVaultStatus"),
    ("freehold", "write", """
        DeleteNextSecret DeleteSecretSchedule PromoteNextSecret PutNextSecret PutSecretSchedule
    """),
    ("freehold", "administer", "RotateVaultKey"),
    ("freehold", "read", """
        GetConnector GetFunction GetGatewayStatus ListActionGroups ListConnectors ListFunctions
        ListGatewayChanges ListGatewayProblems ListGatewayTools GetActionGroup
    """),
    ("freehold", "read", """
        CheckPolicies DiffPolicies ExplainPolicyCall GetGatewayPolicySchema
    """),
    ("freehold", "read", """
        GetMemoryErasure GetMemoryProfile GetMemoryRecordProvenance GetMemoryStatus
        ListMemoryErasures ListMemoryHistory ListMemoryRetrievals
    """),
    # What was said in them too, where a runtime captures it, as in logs.
    ("freehold", "read", """
        ExplainSpan GetModelCosts GetSpan GetTrace GetTraceSeries GetTracedSession ListSpans
        ListTracedSessions ListTraces WatchTraces
    """),
    ("freehold", "read", "CompareFork GetFork GetForkPoint ListForks"),
    # It invokes the agent besides, as who forks: whoever may not is refused there.
    ("freehold", "operate", "CreateFork DeleteFork"),
    # Of a person, and for good.
    ("freehold", "administer", "EraseMemoryActor"),
    # What an agent is to know of whom it talks to.
    ("freehold", "inside", "GetMemoryProfile"),
    # It tells of what was decided on.
    ("freehold", "oversee", """
        ExplainPolicyDecision GetPolicyDecision ListPolicyDecisions TryPolicies
    """),
    ("freehold", "administer", "AcknowledgePolicyChange GetDecisionView PutDecisionView"),
    ("freehold", "write", "CreateFunction DeleteFunction UpdateFunction"),
    ("freehold", "invoke", "InvokeFunction"),
    # Telemetry from outside; code in a sandbox sends its own, through either of its doors.
    ("freehold", "write", "ExportTelemetry"),
    ("freehold", "ingest", "ExportTelemetry"),
    ("freehold", "inside", "ExportTelemetry"),
    ("freehold", "read", "GetTelemetryConfiguration"),
    # What is kept of what people say: not for who writes the agent.
    ("freehold", "administer", "PutTelemetryConfiguration"),
    # What an agent may do, and what it is told a tool is: not for who writes the agent.
    ("freehold", "administer", """
        ApproveGatewayChanges DeleteActionGroup PutActionGroup RejectGatewayChanges
    """),
    # Asked besides, where a gateway's engine or a policy's mode changes: see services/policy.
    ("freehold", "administer", "ChangePolicyMode"),
    ("freehold", "oversee", """
        ExportAudit FollowAudit ListAccessKeys ListAudit ListPeople ListTenants VerifyAudit
    """),
    ("freehold", "self", "SignOut WhoAmI"),
    ("console", "self", """
        AnswerConsent AnswerDeviceRequest GetConsent GetDeviceRequest GetHome GetOverview
        SwitchAccount
    """),
    ("console", "read", """
        ExplainSpan FollowTraces GetAgent GetFork GetForkPoint GetSession GetSpan GetTrace
        ListAgents ListForks ListSessions ListTraces
    """),
    # Each of these asks for what it does with the person's own roles again.
    ("console", "invoke", "StopAgentSession TryAgent"),
    # The rooms of governance, each in the group of what it asks for as the same person.
    ("console", "read", """
        ReadErasures ReadGateways ReadIdentities ReadMemories ReadPolicies ReportCosts
    """),
    ("console", "operate", "CreateFork DeleteFork RevokeOauthGrant SynchronizeGatewayTarget"),
    ("console", "invoke", "TryTool"),
    ("console", "administer", """
        AddPerson ChangeAccessKey ChangePerson CreateAccessKey DecideGatewayChange
        EraseMemoryActor
    """),
    ("console", "oversee", "ReadAccessKeys ReadAudit ReadDecisions ReadPeople VerifyAudit"),
)  # fmt: skip

GROUPS = (
    "read", "write", "operate", "invoke", "secrets", "administer", "oversee", "ingest",
    "self", "inside", "gateway", "bearer", "anonymous",
)  # fmt: skip

SHAREABLE = (
    "bedrock-agentcore:BatchCreateMemoryRecords",
    "bedrock-agentcore:BatchDeleteMemoryRecords",
    "bedrock-agentcore:BatchUpdateMemoryRecords",
    "bedrock-agentcore:CreateEvent",
    "bedrock-agentcore:DeleteEvent",
    "bedrock-agentcore:DeleteMemoryRecord",
    "bedrock-agentcore:GetAgentCard",
    "bedrock-agentcore:GetEvent",
    "bedrock-agentcore:GetMemoryRecord",
    "bedrock-agentcore:IngestData",
    "bedrock-agentcore:InvokeAgentRuntime",
    "bedrock-agentcore:InvokeAgentRuntimeCommand",
    "bedrock-agentcore:InvokeAgentRuntimeCommandShell",
    "bedrock-agentcore:InvokeAgentRuntimeForUser",
    "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream",
    "bedrock-agentcore:InvokeGateway",
    "bedrock-agentcore:ListActors",
    "bedrock-agentcore:ListEvents",
    "bedrock-agentcore:ListMemoryExtractionJobs",
    "bedrock-agentcore:ListMemoryRecords",
    "bedrock-agentcore:ListSessions",
    "bedrock-agentcore:RetrieveMemoryRecords",
    "bedrock-agentcore:StartMemoryExtractionJob",
    "bedrock-agentcore:StopRuntimeSession",
)
"""What a resource's own policy decides on. Each names one resource, and nothing beside it but what
that resource holds."""


TELLS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "freehold:GetMemoryProfile": (
        "bedrock-agentcore:ListMemoryRecords", "bedrock-agentcore:RetrieveMemoryRecords",
    ),
    "freehold:GetMemoryRecordProvenance": (
        "bedrock-agentcore:GetEvent", "bedrock-agentcore:GetMemoryRecord",
    ),
    "freehold:ListMemoryHistory": (
        "bedrock-agentcore:ListMemoryRecords", "bedrock-agentcore:RetrieveMemoryRecords",
    ),
    "freehold:ListMemoryRetrievals": ("bedrock-agentcore:RetrieveMemoryRecords",),
})  # fmt: skip
"""Operations of our own that tell what these of SHAREABLE do: who may not call one of those may not
call them either. No policy lets anybody in to them from elsewhere."""


def _by_operation() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for service, group, names in _TABLE:
        for name in names.split():
            found.setdefault(f"{service}:{name}", set()).add(group)
    return MappingProxyType({id: frozenset(groups) for id, groups in found.items()})


GROUPS_OF: Mapping[str, frozenset[str]] = _by_operation()
"""By "{service}:{Operation}"."""
