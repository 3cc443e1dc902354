# %% [markdown]
# # restart_and_churn

# %%
print(1)
